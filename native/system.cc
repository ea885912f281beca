// Small doors to the machine: CPUs, namespaces, the bpffs mount, interface indices, sockets with a
// mark.

#include "system.h"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>

#include <cerrno>
#include <cstring>
#include <string>

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

namespace {

constexpr size_t kIpv4Bytes = 4;
constexpr size_t kIpv6Bytes = 16;

/** An address without a port as bind(2) takes it; its length. */
socklen_t MakeSocketAddress(const Bytes& bytes, struct sockaddr_storage& storage) {
  if (bytes.size == kIpv4Bytes) {
    auto* ipv4 = reinterpret_cast<struct sockaddr_in*>(&storage);
    ipv4->sin_family = AF_INET;
    std::memcpy(&ipv4->sin_addr, bytes.data, kIpv4Bytes);
    return sizeof(*ipv4);
  }
  auto* ipv6 = reinterpret_cast<struct sockaddr_in6*>(&storage);
  ipv6->sin6_family = AF_INET6;
  std::memcpy(&ipv6->sin6_addr, bytes.data, kIpv6Bytes);
  return sizeof(*ipv6);
}

}  // namespace

Napi::Value OpenMarkedSocket(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "openMarkedSocket", ""};
  Bytes bytes = ReadBytes(call, info[0], "address");
  uint32_t mark = ReadUint32(call, info[1], "mark");
  if (bytes.size != kIpv4Bytes && bytes.size != kIpv6Bytes) {
    call.Fail(Code::kBadSize, "address must be 4 or 16 bytes long, not " +
                                  std::to_string(bytes.size));
  }
  struct sockaddr_storage address = {};
  socklen_t length = MakeSocketAddress(bytes, address);
  Fd fd(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd.valid()) call.FailErrno(errno, "socket");
  if (setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0) {
    call.FailErrno(errno, "SO_MARK");
  }
  auto* generic = reinterpret_cast<struct sockaddr*>(&address);
  if (bind(fd.get(), generic, length) != 0) call.FailErrno(errno, "bind");
  if (getsockname(fd.get(), generic, &length) != 0) call.FailErrno(errno, "getsockname");
  // The port is at the same place in both families.
  uint16_t port = ntohs(reinterpret_cast<struct sockaddr_in*>(&address)->sin_port);
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("port", Napi::Number::New(call.env, port));
  result.Set("descriptor", Napi::Number::New(call.env, fd.Release()));
  return result;
}

}  // namespace pointsman
