// BpfMap's life (create, open, mmap, pin, close) and its single-element calls; the batches are in
// bpf_map_batch.cc. Sizes come from the kernel, never from JavaScript.

#include "bpf_map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "bpf_object.h"
#include "options.h"
#include "pins.h"

namespace pointsman {

namespace {

constexpr napi_type_tag kTag = {0x7065696e74736d61, 0x6e2e4270664d6170};

size_t RoundUpTo8(size_t size) { return (size + 7) & ~static_cast<size_t>(7); }

}  // namespace

bool MapShape::IsPerCpu() const {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

bool MapShape::HoldsMaps() const {
  return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS;
}

bool MapShape::HoldsFds() const {
  return HoldsMaps() || type == BPF_MAP_TYPE_PROG_ARRAY || type == BPF_MAP_TYPE_PERF_EVENT_ARRAY ||
         type == BPF_MAP_TYPE_CGROUP_ARRAY || type == BPF_MAP_TYPE_SOCKMAP ||
         type == BPF_MAP_TYPE_SOCKHASH || type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY;
}

size_t MapShape::ValueBytes() const {
  if (!IsPerCpu()) return value_size;
  return RoundUpTo8(value_size) * static_cast<size_t>(libbpf_num_possible_cpus());
}

size_t MapShape::CursorBytes() const {
  // The kernel's cursor is a key in arrays and tries, and a u32 bucket in hash tables.
  return key_size > sizeof(uint32_t) ? key_size : sizeof(uint32_t);
}

MapShape ReadMapShape(const Call& call, int fd) {
  struct bpf_map_info info = {};
  uint32_t length = sizeof(info);
  int error = bpf_obj_get_info_by_fd(fd, &info, &length);
  if (error != 0) call.FailErrno(error);
  if (libbpf_num_possible_cpus() <= 0) call.Fail(Code::kSystem, "cannot count the possible CPUs");
  MapShape shape;
  shape.id = info.id;
  shape.name = std::string(info.name, strnlen(info.name, sizeof(info.name)));
  shape.type = info.type;
  shape.key_size = info.key_size;
  shape.value_size = info.value_size;
  shape.max_entries = info.max_entries;
  shape.flags = info.map_flags;
  return shape;
}

void BpfMap::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "BpfMap", {
    StaticMethod<&BpfMap::Create>("create"),
    StaticMethod<&BpfMap::Open>("open"),
    InstanceMethod<&BpfMap::Info>("info"),
    InstanceMethod<&BpfMap::Lookup>("lookup"),
    InstanceMethod<&BpfMap::Update>("update"),
    InstanceMethod<&BpfMap::Delete>("delete"),
    InstanceMethod<&BpfMap::NextKey>("nextKey"),
    InstanceMethod<&BpfMap::LookupBatch>("lookupBatch"),
    InstanceMethod<&BpfMap::UpdateBatch>("updateBatch"),
    InstanceMethod<&BpfMap::DeleteBatch>("deleteBatch"),
    InstanceMethod<&BpfMap::UpdateInner>("updateInner"),
    InstanceMethod<&BpfMap::Mmap>("mmap"),
    InstanceMethod<&BpfMap::Pin>("pin"),
    InstanceMethod<&BpfMap::Freeze>("freeze"),
    InstanceMethod<&BpfMap::Close>("close"),
  });
  Instance::Of(env).SetConstructor(Class::kBpfMap, constructor);
  exports.Set("BpfMap", constructor);
}

Napi::Object BpfMap::Make(const Call& call, Fd fd, BpfObject* owner) {
  MapShape shape = ReadMapShape(call, fd.get());
  return Instance::Of(call.env).Make(Class::kBpfMap, State{std::move(fd), std::move(shape), owner});
}

BpfMap* BpfMap::Read(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    call.Fail(Code::kBadArgument, std::string(name) + " must be a BpfMap");
  }
  BpfMap* map = Unwrap(value.As<Napi::Object>());
  if (!map->IsOpen()) call.Fail(Code::kClosed, std::string(name) + " is closed");
  return map;
}

BpfMap::BpfMap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<BpfMap>(info), Resource(Instance::Of(info.Env()).registry()) {
  Call call{info.Env(), "BpfMap", ""};
  State state = Instance::Of(info.Env()).Take<State>(call);
  info.This().As<Napi::Object>().TypeTag(&kTag);
  fd_ = std::move(state.fd);
  shape_ = std::move(state.shape);
  owner_ = state.owner;
}

BpfMap::~BpfMap() {
  if (owner_ != nullptr) owner_->Forget(this);
}

void BpfMap::Release() {
  fd_.Reset();
  if (!memory_.IsEmpty()) {
    // Detaching drops JavaScript's reference; the finalizer unmaps when nobody can look any more.
    Napi::HandleScope scope(Env());
    Napi::ArrayBuffer memory = memory_.Value();
    if (!memory.IsEmpty() && !memory.IsDetached()) memory.Detach();
    memory_.Reset();
  }
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->Forget(this);
}

void BpfMap::ReleaseAtExit() { fd_.Reset(); }

Call BpfMap::Begin(const Napi::CallbackInfo& info, const char* operation) const {
  Call call{info.Env(), operation, shape_.name};
  if (!IsOpen()) call.Fail(Code::kClosed, "the map is closed");
  return call;
}

void BpfMap::RefuseFds(const Call& call) const {
  if (shape_.HoldsFds()) {
    call.Fail(Code::kBadState, "the values of this map are file descriptors" +
                                   std::string(shape_.HoldsMaps() ? "; use updateInner" : ""));
  }
}

Napi::Value BpfMap::Create(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "BpfMap.create", ""};
  Napi::Object spec = ReadObject(call, info[0], "spec");
  std::string name = ReadString(call, Property(spec, "name"), "name");
  call.object = name;
  if (name.size() >= BPF_OBJ_NAME_LEN) call.Fail(Code::kBadArgument, "name has over 15 bytes");
  uint32_t type = ReadUint32(call, Property(spec, "type"), "type");
  uint32_t key_size = ReadUint32(call, Property(spec, "keySize"), "keySize");
  uint32_t value_size = ReadUint32(call, Property(spec, "valueSize"), "valueSize");
  uint32_t max_entries = ReadUint32(call, Property(spec, "maxEntries"), "maxEntries");
  auto options = Options<bpf_map_create_opts>();
  options.map_flags = ReadUint32(call, Property(spec, "flags"), "flags");
  // The prototype last: reading the others may run JavaScript, which may close it.
  Napi::Value inner = Property(spec, "innerMap");
  bool holds_maps = type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS;
  if (holds_maps) {
    options.inner_map_fd = static_cast<uint32_t>(Read(call, inner, "innerMap")->fd());
  } else if (!inner.IsNull()) {
    call.Fail(Code::kBadArgument, "innerMap must be null for a map that holds no maps");
  }
  int fd = bpf_map_create(static_cast<bpf_map_type>(type), name.c_str(), key_size, value_size,
                          max_entries, &options);
  if (fd < 0) call.FailErrno(fd);
  return Make(call, Fd(fd), nullptr);
}

Napi::Value BpfMap::Open(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "BpfMap.open", ""};
  call.object = ReadString(call, info[0], "pinPath");
  return Make(call, OpenPin(call, call.object, Pinned::kMap), nullptr);
}

Napi::Value BpfMap::Info(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.info");
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("id", shape_.id);
  result.Set("name", shape_.name);
  result.Set("type", shape_.type);
  result.Set("keySize", shape_.key_size);
  result.Set("valueSize", shape_.value_size);
  result.Set("maxEntries", shape_.max_entries);
  result.Set("flags", shape_.flags);
  return result;
}

Napi::Value BpfMap::Lookup(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.lookup");
  Bytes key = ReadBytes(call, info[0], "key", shape_.key_size);
  Napi::Uint8Array value = Napi::Uint8Array::New(call.env, shape_.ValueBytes());
  int error = bpf_map_lookup_elem(fd_.get(), key.data, value.Data());
  if (error == -ENOENT) return call.env.Null();
  if (error != 0) call.FailErrno(error);
  return value;
}

void BpfMap::Update(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.update");
  Bytes key = ReadBytes(call, info[0], "key", shape_.key_size);
  Bytes value = ReadBytes(call, info[1], "value", shape_.ValueBytes());
  uint32_t flags = ReadUint32(call, info[2], "flags");
  RefuseFds(call);
  int error = bpf_map_update_elem(fd_.get(), key.data, value.data, flags);
  if (error != 0) call.FailErrno(error);
}

Napi::Value BpfMap::Delete(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.delete");
  Bytes key = ReadBytes(call, info[0], "key", shape_.key_size);
  int error = bpf_map_delete_elem(fd_.get(), key.data);
  if (error != 0 && error != -ENOENT) call.FailErrno(error);
  return Napi::Boolean::New(call.env, error == 0);
}

Napi::Value BpfMap::NextKey(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.nextKey");
  const void* key = nullptr;
  if (!info[0].IsNull()) key = ReadBytes(call, info[0], "key", shape_.key_size).data;
  Napi::Uint8Array next = Napi::Uint8Array::New(call.env, shape_.key_size);
  int error = bpf_map_get_next_key(fd_.get(), key, next.Data());
  if (error == -ENOENT) return call.env.Null();
  if (error != 0) call.FailErrno(error);
  return next;
}

void BpfMap::UpdateInner(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.updateInner");
  Bytes key = ReadBytes(call, info[0], "key", shape_.key_size);
  BpfMap* inner = Read(call, info[1], "inner");
  if (!shape_.HoldsMaps()) call.Fail(Code::kBadState, "this map holds no maps");
  uint32_t fd = static_cast<uint32_t>(inner->fd());
  int error = bpf_map_update_elem(fd_.get(), key.data, &fd, BPF_ANY);
  if (error != 0) call.FailErrno(error);
}

Napi::Value BpfMap::Mmap(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.mmap");
  if (!(shape_.flags & BPF_F_MMAPABLE) || shape_.type != BPF_MAP_TYPE_ARRAY) {
    call.Fail(Code::kBadState, "only an array with BPF_F_MMAPABLE has memory to share");
  }
  if (!memory_.IsEmpty()) {
    Napi::ArrayBuffer memory = memory_.Value();
    if (!memory.IsEmpty() && !memory.IsDetached()) return memory;
    memory_.Reset();
  }
  // The mapping ends with its page; the ArrayBuffer shows what is the map's.
  size_t length = RoundUpTo8(shape_.value_size) * shape_.max_entries;
  void* start = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (start == MAP_FAILED) call.FailErrno(errno);
  auto unmap = [](napi_env, void* data, void* hint) {
    munmap(data, reinterpret_cast<size_t>(hint));
  };
  napi_value created = nullptr;
  napi_status status = napi_create_external_arraybuffer(call.env, start, length, unmap,
                                                        reinterpret_cast<void*>(length), &created);
  if (status != napi_ok) {
    munmap(start, length);
    call.Fail(Code::kNotSupported, "this runtime takes no external memory");
  }
  Napi::ArrayBuffer memory(call.env, created);
  memory_ = Napi::Weak(memory);
  return memory;
}

void BpfMap::Pin(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.pin");
  PinFd(call, fd_.get(), ReadString(call, info[0], "path"));
}

void BpfMap::Freeze(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfMap.freeze");
  int error = bpf_map_freeze(fd_.get());
  if (error != 0) call.FailErrno(error);
}

void BpfMap::Close(const Napi::CallbackInfo&) { Release(); }

}  // namespace pointsman
