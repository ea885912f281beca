// Small doors to the machine: CPUs, namespaces, the bpffs mount, interface indices, sockets with a
// mark, packets with a header of the caller's.

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

namespace {

constexpr size_t kIpv4HeaderBytes = 20;
constexpr size_t kIpv4LengthAt = 2;
constexpr size_t kIpv4DestinationAt = 16;
constexpr size_t kIpv6HeaderBytes = 40;
constexpr size_t kIpv6LengthAt = 4;
constexpr size_t kIpv6DestinationAt = 24;

/** How long the IP packet is that begins here, by its header; 0: it is none, or not all there. */
size_t PacketLength(const uint8_t* packet, size_t rest) {
  if (rest < kIpv4HeaderBytes) return 0;
  bool is_ipv4 = packet[0] >> 4 == 4;
  if (!is_ipv4 && (packet[0] >> 4 != 6 || rest < kIpv6HeaderBytes)) return 0;
  size_t header = is_ipv4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
  size_t at = is_ipv4 ? kIpv4LengthAt : kIpv6LengthAt;
  size_t length = (static_cast<size_t>(packet[at]) << 8 | packet[at + 1]) + (is_ipv4 ? 0 : header);
  return length < header || length > rest ? 0 : length;
}

}  // namespace

Napi::Value SendPackets(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "sendPackets", ""};
  Bytes bytes = ReadBytes(call, info[0], "packets");
  Fd sockets[2];
  uint32_t sent = 0;
  for (size_t at = 0, length; at < bytes.size; at += length) {
    const uint8_t* packet = bytes.data + at;
    length = PacketLength(packet, bytes.size - at);
    if (length == 0) call.Fail(Code::kBadArgument, "no IP packet at byte " + std::to_string(at));
    bool is_ipv4 = packet[0] >> 4 == 4;
    struct sockaddr_storage to = {};
    Bytes destination = is_ipv4 ? Bytes{packet + kIpv4DestinationAt, kIpv4Bytes}
                                : Bytes{packet + kIpv6DestinationAt, kIpv6Bytes};
    socklen_t to_length = MakeSocketAddress(destination, to);
    Fd& fd = sockets[is_ipv4 ? 0 : 1];
    if (!fd.valid()) {
      // IPPROTO_RAW: with headers as they are given, and nothing to receive.
      fd = Fd(socket(to.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
      if (!fd.valid()) call.FailErrno(errno, "socket");
    }
    ssize_t result = sendto(fd.get(), packet, length, 0,
                            reinterpret_cast<struct sockaddr*>(&to), to_length);
    if (result >= 0) sent += 1;
  }
  return Napi::Number::New(call.env, sent);
}

}  // namespace pointsman
