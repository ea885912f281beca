// XdpLink by plain BPF links: bpf_link_create takes the XDP mode as flags, which libbpf's own
// bpf_program__attach_xdp() does not.

#include "xdp_link.h"

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cerrno>
#include <utility>

#include "arguments.h"
#include "bpf_object.h"
#include "options.h"
#include "pins.h"

namespace pointsman {

namespace {

struct bpf_link_info ReadLinkInfo(const Call& call, int fd) {
  struct bpf_link_info info = {};
  uint32_t length = sizeof(info);
  int error = bpf_obj_get_info_by_fd(fd, &info, &length);
  if (error != 0) call.FailErrno(error);
  return info;
}

}  // namespace

void XdpLink::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "XdpLink", {
    StaticMethod<&XdpLink::Attach>("attach"),
    StaticMethod<&XdpLink::Open>("open"),
    InstanceMethod<&XdpLink::Info>("info"),
    InstanceMethod<&XdpLink::Update>("update"),
    InstanceMethod<&XdpLink::Pin>("pin"),
    InstanceMethod<&XdpLink::Detach>("detach"),
    InstanceMethod<&XdpLink::Close>("close"),
  });
  Instance::Of(env).SetConstructor(Class::kXdpLink, constructor);
  exports.Set("XdpLink", constructor);
}

XdpLink::XdpLink(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<XdpLink>(info), Resource(Instance::Of(info.Env()).registry()) {
  Call call{info.Env(), "XdpLink", ""};
  State state = Instance::Of(info.Env()).Take<State>(call);
  fd_ = std::move(state.fd);
  name_ = std::move(state.name);
}

Call XdpLink::Begin(const Napi::CallbackInfo& info, const char* operation) const {
  Call call{info.Env(), operation, name_};
  if (!fd_.valid()) call.Fail(Code::kClosed, "the link is closed");
  return call;
}

Napi::Value XdpLink::Attach(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "XdpLink.attach", ""};
  BpfObject* object = BpfObject::Read(call, info[0], "object");
  std::string program = ReadString(call, info[1], "program");
  uint32_t ifindex = ReadUint32(call, info[2], "ifindex");
  uint32_t mode = ReadUint32(call, info[3], "mode");
  call.object = "ifindex " + std::to_string(ifindex);
  if (mode != 0 && mode != XDP_FLAGS_SKB_MODE && mode != XDP_FLAGS_DRV_MODE) {
    call.Fail(Code::kBadArgument, "mode must be 0, 2 (generic) or 4 (native)");
  }
  auto options = Options<bpf_link_create_opts>();
  options.flags = mode;
  int fd = bpf_link_create(object->ProgramFd(call, program), static_cast<int>(ifindex), BPF_XDP,
                           &options);
  if (fd < 0) {
    // The kernel calls a missing interface EINVAL, like everything else.
    char name[IF_NAMESIZE];
    if (fd == -EINVAL && if_indextoname(ifindex, name) == nullptr) call.FailErrno(ENODEV);
    call.FailErrno(fd, program);
  }
  return Instance::Of(call.env).Make(Class::kXdpLink, State{Fd(fd), call.object});
}

Napi::Value XdpLink::Open(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "XdpLink.open", ""};
  call.object = ReadString(call, info[0], "pinPath");
  Fd fd = OpenPin(call, call.object, Pinned::kLink);
  if (ReadLinkInfo(call, fd.get()).type != BPF_LINK_TYPE_XDP) {
    call.Fail(Code::kBadArgument, "a link, but not an XDP one");
  }
  return Instance::Of(call.env).Make(Class::kXdpLink, State{std::move(fd), call.object});
}

Napi::Value XdpLink::Info(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "XdpLink.info");
  struct bpf_link_info link = ReadLinkInfo(call, fd_.get());
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("id", link.id);
  // 0 once it is detached, or its interface gone.
  result.Set("ifindex", link.xdp.ifindex);
  result.Set("programId", link.prog_id);
  return result;
}

void XdpLink::Update(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "XdpLink.update");
  BpfObject* object = BpfObject::Read(call, info[0], "object");
  std::string program = ReadString(call, info[1], "program");
  int error = bpf_link_update(fd_.get(), object->ProgramFd(call, program), nullptr);
  if (error != 0) call.FailErrno(error, program);
}

void XdpLink::Pin(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "XdpLink.pin");
  PinFd(call, fd_.get(), ReadString(call, info[0], "path"));
}

void XdpLink::Detach(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "XdpLink.detach");
  int error = bpf_link_detach(fd_.get());
  if (error != 0) call.FailErrno(error);
}

void XdpLink::Close(const Napi::CallbackInfo&) { fd_.Reset(); }

}  // namespace pointsman
