// The addon's exports, in the order of src/dataplane/xdp/native.ts. Thin on purpose: what could be
// TypeScript is not here, and nothing here has ever heard of a service.

#include <bpf/libbpf.h>
#include <napi.h>

#include "bpf_map.h"
#include "bpf_object.h"
#include "instance.h"
#include "log_capture.h"
#include "netlink_socket.h"
#include "ring_buffer.h"
#include "system.h"
#include "xdp_link.h"

namespace pointsman {

namespace {

Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  InstallLogCapture();
  // node deletes it after the finalizers' turn; they hold the registry themselves.
  auto* instance = new Instance();
  env.SetInstanceData(instance);
  instance->registry()->InstallCleanupHook(env);
  BpfMap::Define(env, exports);
  BpfObject::Define(env, exports);
  XdpLink::Define(env, exports);
  RingBuffer::Define(env, exports);
  NetlinkSocket::Define(env, exports);
  exports.Set("gracePeriod", Napi::Function::New<GracePeriod>(env, "gracePeriod"));
  exports.Set("possibleCpus", Napi::Function::New<PossibleCpus>(env, "possibleCpus"));
  exports.Set("enterNetworkNamespace",
              Napi::Function::New<EnterNetworkNamespace>(env, "enterNetworkNamespace"));
  exports.Set("mountBpffs", Napi::Function::New<MountBpffs>(env, "mountBpffs"));
  exports.Set("interfaceIndex", Napi::Function::New<InterfaceIndex>(env, "interfaceIndex"));
  exports.Set("openMarkedSocket",
              Napi::Function::New<OpenMarkedSocket>(env, "openMarkedSocket"));
  exports.Set("sendPackets", Napi::Function::New<SendPackets>(env, "sendPackets"));
  exports.Set("libbpfVersion", Napi::String::New(env, libbpf_version_string()));
  return exports;
}

}  // namespace

}  // namespace pointsman

static Napi::Object InitialiseModule(Napi::Env env, Napi::Object exports) {
  return pointsman::Initialise(env, exports);
}

NODE_API_MODULE(pointsman, InitialiseModule)
