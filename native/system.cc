// Small doors to the machine: CPUs, namespaces, the bpffs mount, interface indices.

#include "system.h"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#include <cerrno>

#include "arguments.h"
#include "fd.h"

namespace pointsman {

Napi::Value PossibleCpus(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "possibleCpus", ""};
  int count = libbpf_num_possible_cpus();
  if (count < 0) call.FailErrno(count);
  return Napi::Number::New(call.env, count);
}

void EnterNetworkNamespace(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "enterNetworkNamespace", ""};
  call.object = ReadString(call, info[0], "path");
  Fd fd(open(call.object.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) call.FailErrno(errno);
  if (setns(fd.get(), CLONE_NEWNET) != 0) call.FailErrno(errno);
}

void MountBpffs(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "mountBpffs", ""};
  call.object = ReadString(call, info[0], "path");
  struct statfs found = {};
  if (statfs(call.object.c_str(), &found) != 0) call.FailErrno(errno);
  if (static_cast<unsigned long>(found.f_type) == BPF_FS_MAGIC) return;
  if (mount("bpf", call.object.c_str(), "bpf", 0, "mode=0700") != 0) call.FailErrno(errno);
}

Napi::Value InterfaceIndex(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "interfaceIndex", ""};
  call.object = ReadString(call, info[0], "name");
  return Napi::Number::New(call.env, if_nametoindex(call.object.c_str()));
}

}  // namespace pointsman
