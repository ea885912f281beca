// BpfObject until it is loaded: open, settings, load. What loaded programs do is in bpf_program.cc.

#include "bpf_object.h"

#include <bpf/bpf.h>
#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arguments.h"
#include "bpf_map.h"
#include "fd.h"
#include "options.h"

namespace pointsman {

namespace {

constexpr napi_type_tag kTag = {0x7065696e74736d61, 0x6e2e4270664f626a};

/** ".rodata" for the map that libbpf calls "object.rodata": what the file calls the section. */
std::string NameInFile(const struct bpf_map* map) {
  std::string name = bpf_map__name(map);
  size_t dot = name.find('.');
  return bpf_map__is_internal(map) && dot != std::string::npos ? name.substr(dot) : name;
}

}  // namespace

void BpfObject::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "BpfObject", {
    StaticMethod<&BpfObject::Open>("open"),
    InstanceMethod<&BpfObject::MapNames>("mapNames"),
    InstanceMethod<&BpfObject::ProgramNames>("programNames"),
    InstanceMethod<&BpfObject::Section>("section"),
    InstanceMethod<&BpfObject::SetSection>("setSection"),
    InstanceMethod<&BpfObject::SetMaxEntries>("setMaxEntries"),
    InstanceMethod<&BpfObject::ReuseMap>("reuseMap"),
    InstanceMethod<&BpfObject::SetAutoload>("setAutoload"),
    InstanceMethod<&BpfObject::Load>("load"),
    InstanceMethod<&BpfObject::Map>("map"),
    InstanceMethod<&BpfObject::ProgramInfo>("programInfo"),
    InstanceMethod<&BpfObject::TestRun>("testRun"),
    InstanceMethod<&BpfObject::PinProgram>("pinProgram"),
    InstanceMethod<&BpfObject::Close>("close"),
  });
  Instance::Of(env).SetConstructor(Class::kBpfObject, constructor);
  exports.Set("BpfObject", constructor);
}

BpfObject* BpfObject::Read(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    call.Fail(Code::kBadArgument, std::string(name) + " must be a BpfObject");
  }
  BpfObject* object = Unwrap(value.As<Napi::Object>());
  if (!object->object_) call.Fail(Code::kClosed, std::string(name) + " is closed");
  return object;
}

BpfObject::BpfObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<BpfObject>(info), Resource(Instance::Of(info.Env()).registry()) {
  Call call{info.Env(), "BpfObject", ""};
  State state = Instance::Of(info.Env()).Take<State>(call);
  info.This().As<Napi::Object>().TypeTag(&kTag);
  path_ = std::move(state.path);
  object_ = std::move(state.object);
  struct bpf_map* map;
  bpf_object__for_each_map(map, object_.get()) maps_.emplace_back(NameInFile(map), map);
}

BpfObject::~BpfObject() {
  // Garbage: its maps have descriptors of their own, and whoever holds one may go on using it.
  for (auto& [name, child] : children_) child->Orphan();
}

void BpfObject::ReleaseAtExit() { object_.reset(); }

void BpfObject::CloseChildren() {
  auto children = std::exchange(children_, {});
  for (auto& [name, child] : children) {
    child->Orphan();
    child->Release();
  }
}

void BpfObject::Forget(BpfMap* child) {
  for (auto it = children_.begin(); it != children_.end(); ++it) {
    if (it->second == child) {
      children_.erase(it);
      return;
    }
  }
}

void BpfObject::RequireOpen(const Call& call) const {
  if (!object_) call.Fail(Code::kClosed, "the object is closed");
}

Call BpfObject::Begin(const Napi::CallbackInfo& info, const char* operation) const {
  Call call{info.Env(), operation, path_};
  RequireOpen(call);
  return call;
}

Call BpfObject::BeginOpened(const Napi::CallbackInfo& info, const char* operation) const {
  Call call = Begin(info, operation);
  if (stage_ == Stage::kLoaded) call.Fail(Code::kBadState, "only possible before load()");
  if (stage_ == Stage::kFailed) call.Fail(Code::kBadState, "load() failed; open the file again");
  return call;
}

Call BpfObject::BeginLoaded(const Napi::CallbackInfo& info, const char* operation) const {
  Call call = Begin(info, operation);
  if (stage_ == Stage::kOpened) call.Fail(Code::kBadState, "only possible after load()");
  if (stage_ == Stage::kFailed) call.Fail(Code::kBadState, "load() failed; open the file again");
  return call;
}

struct bpf_map* BpfObject::FindMap(const Call& call, const std::string& name) const {
  for (const auto& [known, map] : maps_) {
    if (known == name) return map;
  }
  call.Fail(Code::kNotFound, "has no map " + name);
}

bool BpfObject::NamesInnerPrototype(const std::string& name) const {
  for (const auto& [known, map] : maps_) {
    struct bpf_map* inner = bpf_map__inner_map(map);
    if (inner != nullptr && bpf_map__name(inner) != nullptr && name == bpf_map__name(inner)) {
      return true;
    }
  }
  return false;
}

struct bpf_program* BpfObject::FindProgram(const Call& call, const std::string& name) const {
  struct bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
  if (program == nullptr) call.Fail(Code::kNotFound, "has no program " + name);
  return program;
}

Napi::Value BpfObject::Open(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "BpfObject.open", ""};
  call.object = ReadString(call, info[0], "path");
  LogCapture log;
  Object object(bpf_object__open_file(call.object.c_str(), nullptr));
  if (!object) call.FailErrno(errno, log.Summary());
  return Instance::Of(call.env).Make(Class::kBpfObject, State{call.object, std::move(object)});
}

Napi::Value BpfObject::MapNames(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfObject.mapNames");
  Napi::Array names = Napi::Array::New(call.env);
  for (uint32_t i = 0; i < maps_.size(); i++) names.Set(i, maps_[i].first);
  return names;
}

Napi::Value BpfObject::ProgramNames(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "BpfObject.programNames");
  Napi::Array names = Napi::Array::New(call.env);
  uint32_t i = 0;
  struct bpf_program* program;
  bpf_object__for_each_program(program, object_.get()) names.Set(i++, bpf_program__name(program));
  return names;
}

Napi::Value BpfObject::Section(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.section");
  std::string name = ReadString(call, info[0], "name");
  for (const auto& [known, map] : maps_) {
    if (known != name || !bpf_map__is_internal(map)) continue;
    size_t size = 0;
    const void* bytes = bpf_map__initial_value(map, &size);
    if (bytes != nullptr) return MakeBytes(call.env, bytes, size);
  }
  return call.env.Null();
}

void BpfObject::SetSection(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.setSection");
  std::string name = ReadString(call, info[0], "name");
  struct bpf_map* map = FindMap(call, name);
  size_t size = 0;
  const void* initial = bpf_map__initial_value(map, &size);
  if (!bpf_map__is_internal(map) || initial == nullptr) {
    call.Fail(Code::kNotFound, "has no section " + name);
  }
  Bytes bytes = ReadBytes(call, info[1], "bytes", size);
  int error = bpf_map__set_initial_value(map, bytes.data, bytes.size);
  if (error != 0) call.FailErrno(error, name);
}

void BpfObject::SetMaxEntries(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.setMaxEntries");
  std::string name = ReadString(call, info[0], "map");
  uint32_t max_entries = ReadUint32(call, info[1], "maxEntries");
  // libbpf 1.1 crashes on these: a prototype belongs to no object, and it looks there.
  if (NamesInnerPrototype(name)) {
    call.Fail(Code::kBadState, name + " is the prototype of inner maps; reuse an outer map that "
                                      "was created with another one");
  }
  int error = bpf_map__set_max_entries(FindMap(call, name), max_entries);
  if (error != 0) call.FailErrno(error, name);
}

void BpfObject::ReuseMap(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.reuseMap");
  std::string name = ReadString(call, info[0], "name");
  struct bpf_map* declared = FindMap(call, name);
  BpfMap* live = BpfMap::Read(call, info[1], "map");
  const MapShape& shape = live->shape();
  // libbpf takes any map; the verifier would find out later, with a message about instructions. The
  // number of entries may differ: a map that has grown is the reason for this call.
  if (bpf_map__key_size(declared) != shape.key_size ||
      bpf_map__value_size(declared) != shape.value_size) {
    call.Fail(Code::kBadSize, name + " has other key or value sizes than the live map");
  }
  // The kernel marks every devmap as read-only for programs, and refuses to be asked for that.
  bool is_devmap = shape.type == BPF_MAP_TYPE_DEVMAP || shape.type == BPF_MAP_TYPE_DEVMAP_HASH;
  uint32_t added = is_devmap ? BPF_F_RDONLY_PROG : 0;
  if (static_cast<uint32_t>(bpf_map__type(declared)) != shape.type ||
      (bpf_map__map_flags(declared) | added) != (shape.flags | added)) {
    call.Fail(Code::kBadArgument, name + " has another type or flags than the live map");
  }
  LogCapture log;
  int error = bpf_map__reuse_fd(declared, live->fd());
  if (error != 0) call.FailErrno(error, log.Summary());
}

void BpfObject::SetAutoload(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.setAutoload");
  std::string name = ReadString(call, info[0], "program");
  bool autoload = ReadBoolean(call, info[1], "autoload");
  int error = bpf_program__set_autoload(FindProgram(call, name), autoload);
  if (error != 0) call.FailErrno(error, name);
}

void BpfObject::Load(const Napi::CallbackInfo& info) {
  Call call = BeginOpened(info, "BpfObject.load");
  LogCapture log;
  stage_ = Stage::kFailed;
  int error = bpf_object__load(object_.get());
  if (error != 0) FailLoad(call, error, log);
  std::string without_btf = log.MapWithoutBtf();
  if (!without_btf.empty()) {
    // libbpf goes on; the readers of that BTF would find nothing. Known cause: an enum as key type.
    call.Fail(Code::kNotSupported, "the kernel refused the BTF of map " + without_btf);
  }
  stage_ = Stage::kLoaded;
}

void BpfObject::FailLoad(const Call& call, int error, const LogCapture& log) const {
  LogCapture::Verifier verifier = log.VerifierLog();
  if (!verifier.log.empty()) call.FailVerifier(error, verifier.program, verifier.log);
  call.FailErrno(error, log.Summary());
}

Napi::Value BpfObject::Map(const Napi::CallbackInfo& info) {
  Call call = BeginLoaded(info, "BpfObject.map");
  std::string name = ReadString(call, info[0], "name");
  struct bpf_map* map = FindMap(call, name);
  auto known = children_.find(name);
  if (known != children_.end()) {
    Napi::Object value = known->second->Value();
    if (!value.IsEmpty()) return value;
    // Collected, but its finalizer has not run: another takes its place.
    known->second->Orphan();
    children_.erase(known);
  }
  if (bpf_map__fd(map) < 0) call.Fail(Code::kBadState, "did not create map " + name);
  int fd = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3);
  if (fd < 0) call.FailErrno(errno, name);
  Napi::Object made = BpfMap::Make(call, Fd(fd), this);
  children_[name] = BpfMap::Unwrap(made);
  return made;
}

void BpfObject::Close(const Napi::CallbackInfo&) {
  CloseChildren();
  object_.reset();
  maps_.clear();
}

}  // namespace pointsman
