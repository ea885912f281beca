// BpfMap's batches: many elements for one system call. The kernel counts; what it did not fill is
// never handed to JavaScript.

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "bpf_map.h"

namespace pointsman {

namespace {

Bytes ReadElements(const Call& call, Napi::Value value, const char* name, uint32_t count,
                   size_t size) {
  return ReadBytes(call, value, name, static_cast<size_t>(count) * size);
}

[[noreturn]] void FailAfter(const Call& call, int error, uint32_t done, uint32_t count) {
  // After EFAULT the kernel's count means nothing.
  if (error == -EFAULT) call.FailErrno(error);
  call.FailErrno(error, "after " + std::to_string(done) + " of " + std::to_string(count));
}

}  // namespace

Napi::Value BpfMap::LookupBatch(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.lookupBatch");
  std::vector<uint8_t> from;
  if (!info[0].IsNull()) {
    Bytes cursor = ReadBytes(call, info[0], "cursor", shape_.CursorBytes());
    from.assign(cursor.data, cursor.data + cursor.size);
  }
  uint32_t count = ReadUint32(call, info[1], "count");
  if (count == 0) call.Fail(Code::kBadArgument, "count must be at least 1");
  // More than the map can hold would only be more memory.
  count = std::min(count, std::max(shape_.max_entries, 1u));
  size_t value_bytes = shape_.ValueBytes();
  std::vector<uint8_t> keys(static_cast<size_t>(count) * shape_.key_size);
  std::vector<uint8_t> values(static_cast<size_t>(count) * value_bytes);
  std::vector<uint8_t> next(shape_.CursorBytes());
  uint32_t found = count;
  int error = bpf_map_lookup_batch(fd_.get(), from.empty() ? nullptr : from.data(), next.data(),
                                   keys.data(), values.data(), &found, nullptr);
  bool at_end = error == -ENOENT;
  if (error != 0 && !at_end) FailAfter(call, error, found, count);
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("keys", MakeBytes(call.env, keys.data(), size_t{found} * shape_.key_size));
  result.Set("values", MakeBytes(call.env, values.data(), size_t{found} * value_bytes));
  result.Set("count", found);
  result.Set("cursor", at_end ? call.env.Null()
                              : MakeBytes(call.env, next.data(), next.size()).As<Napi::Value>());
  return result;
}

Napi::Value BpfMap::UpdateBatch(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.updateBatch");
  uint32_t count = ReadUint32(call, info[2], "count");
  Bytes keys = ReadElements(call, info[0], "keys", count, shape_.key_size);
  Bytes values = ReadElements(call, info[1], "values", count, shape_.ValueBytes());
  RefuseFds(call);
  uint32_t done = count;
  if (count > 0) {
    int error = bpf_map_update_batch(fd_.get(), keys.data, values.data, &done, nullptr);
    if (error != 0) FailAfter(call, error, done, count);
  }
  return Napi::Number::New(call.env, done);
}

Napi::Value BpfMap::DeleteBatch(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.deleteBatch");
  uint32_t count = ReadUint32(call, info[1], "count");
  Bytes keys = ReadElements(call, info[0], "keys", count, shape_.key_size);
  uint32_t done = count;
  if (count > 0) {
    int error = bpf_map_delete_batch(fd_.get(), keys.data, &done, nullptr);
    // An absent key ends the batch; the caller sees by the count where it stopped.
    if (error != 0 && error != -ENOENT) FailAfter(call, error, done, count);
  }
  return Napi::Number::New(call.env, done);
}

}  // namespace pointsman
