// RingBuffer by libbpf's reader, stopped after the wanted number of records.

#include "ring_buffer.h"

#include <cerrno>
#include <utility>

#include "arguments.h"
#include "bpf_map.h"
#include "log_capture.h"

namespace pointsman {

namespace {

// Any negative value ends libbpf's loop behind the record that was just handed over.
constexpr int kEnough = -ECANCELED;

}  // namespace

void RingBuffer::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "RingBuffer", {
    StaticMethod<&RingBuffer::Open>("open"),
    InstanceMethod<&RingBuffer::Consume>("consume"),
    InstanceMethod<&RingBuffer::Close>("close"),
  });
  Instance::Of(env).SetConstructor(Class::kRingBuffer, constructor);
  exports.Set("RingBuffer", constructor);
}

RingBuffer::RingBuffer(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<RingBuffer>(info), Resource(Instance::Of(info.Env()).registry()) {
  Call call{info.Env(), "RingBuffer", ""};
  State state = Instance::Of(info.Env()).Take<State>(call);
  name_ = std::move(state.name);
  gathered_ = std::move(state.gathered);
  reader_ = std::move(state.reader);
}

Napi::Value RingBuffer::Open(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "RingBuffer.open", ""};
  BpfMap* map = BpfMap::Read(call, info[0], "map");
  call.object = map->shape().name;
  if (map->shape().type != BPF_MAP_TYPE_RINGBUF) {
    call.Fail(Code::kBadArgument, "map is not a ring buffer");
  }
  LogCapture log;
  auto gathered = std::make_unique<Gathered>();
  Reader reader(ring_buffer__new(map->fd(), OnRecord, gathered.get(), nullptr));
  if (!reader) call.FailErrno(errno, log.Summary());
  return Instance::Of(call.env).Make(
      Class::kRingBuffer, State{call.object, std::move(gathered), std::move(reader)});
}

int RingBuffer::OnRecord(void* gathered, void* data, size_t size) {
  Gathered* into = static_cast<Gathered*>(gathered);
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  into->records.emplace_back(bytes, bytes + size);
  return into->records.size() < into->max ? 0 : kEnough;
}

Napi::Value RingBuffer::Consume(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "RingBuffer.consume", name_};
  if (!reader_) call.Fail(Code::kClosed, "the ring buffer is closed");
  uint32_t max = ReadUint32(call, info[0], "max");
  if (max == 0) call.Fail(Code::kBadArgument, "max must be at least 1");
  gathered_->records.clear();
  gathered_->max = max;
  int error = ring_buffer__consume(reader_.get());
  if (error < 0 && error != kEnough) call.FailErrno(error);
  Napi::Array records = Napi::Array::New(call.env, gathered_->records.size());
  for (uint32_t i = 0; i < gathered_->records.size(); i++) {
    const std::vector<uint8_t>& record = gathered_->records[i];
    records.Set(i, MakeBytes(call.env, record.data(), record.size()));
  }
  gathered_->records.clear();
  return records;
}

void RingBuffer::Close(const Napi::CallbackInfo&) { reader_.reset(); }

}  // namespace pointsman
