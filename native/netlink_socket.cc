// NetlinkSocket: the socket, its datagrams, and a libuv watcher that never keeps the process alive.

#include "netlink_socket.h"

#include <linux/netlink.h>
#include <node_api.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "arguments.h"

namespace pointsman {

namespace {

constexpr int kReceiveBufferBytes = 1 << 20;
// A bound, so that a flood of events cannot hold the event loop; the rest is there for the next
// call.
constexpr size_t kDatagramsMax = 4096;

/**
 * The kernel's own address: port 0. Anybody may send to a netlink socket, so others are not heard.
 */
bool IsFromKernel(const struct sockaddr_nl& from) { return from.nl_pid == 0; }

}  // namespace

void NetlinkSocket::Define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "NetlinkSocket", {
    StaticMethod<&NetlinkSocket::Open>("open"),
    InstanceMethod<&NetlinkSocket::Send>("send"),
    InstanceMethod<&NetlinkSocket::Receive>("receive"),
    InstanceMethod<&NetlinkSocket::OnReadable>("onReadable"),
    InstanceMethod<&NetlinkSocket::Close>("close"),
  });
  Instance::Of(env).SetConstructor(Class::kNetlinkSocket, constructor);
  exports.Set("NetlinkSocket", constructor);
}

NetlinkSocket::NetlinkSocket(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<NetlinkSocket>(info), Resource(Instance::Of(info.Env()).registry()) {
  Call call{info.Env(), "NetlinkSocket", ""};
  State state = Instance::Of(info.Env()).Take<State>(call);
  fd_ = std::move(state.fd);
  name_ = std::move(state.name);
}

NetlinkSocket::~NetlinkSocket() { Release(); }

void NetlinkSocket::ReleaseAtExit() { Release(); }

void NetlinkSocket::Release() {
  StopWatching();
  callback_.Reset();
  fd_.Reset();
}

Call NetlinkSocket::Begin(const Napi::CallbackInfo& info, const char* operation) const {
  Call call{info.Env(), operation, name_};
  if (!fd_.valid()) call.Fail(Code::kClosed, "the socket is closed");
  return call;
}

Napi::Value NetlinkSocket::Open(const Napi::CallbackInfo& info) {
  Call call{info.Env(), "NetlinkSocket.open", ""};
  uint32_t protocol = ReadUint32(call, info[0], "protocol");
  uint32_t groups = ReadUint32(call, info[1], "groups");
  call.object = "protocol " + std::to_string(protocol);
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, static_cast<int>(protocol)));
  if (!fd.valid()) call.FailErrno(errno, "socket");
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it, as much as there is.
  int size = kReceiveBufferBytes;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0) {
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  }
  // Better error texts in replies; older kernels answer without them.
  int on = 1;
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) {
    call.FailErrno(errno, "bind");
  }
  return Instance::Of(call.env).Make(Class::kNetlinkSocket, State{std::move(fd), call.object});
}

void NetlinkSocket::Send(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "NetlinkSocket.send");
  Bytes message = ReadBytes(call, info[0], "message");
  if (message.size < sizeof(struct nlmsghdr)) {
    call.Fail(Code::kBadSize, "message must have a netlink header of 16 bytes");
  }
  struct sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(fd_.get(), message.data, message.size, 0,
                  reinterpret_cast<struct sockaddr*>(&kernel), sizeof(kernel));
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) call.FailErrno(errno);
  if (static_cast<size_t>(sent) != message.size) call.FailErrno(EMSGSIZE);
}

/** Takes what is there; 0, or the errno that ended it early. */
int NetlinkSocket::ReceiveAll(std::vector<std::vector<uint8_t>>& datagrams) {
  while (datagrams.size() < kDatagramsMax) {
    // First the length: a datagram that does not fit would lose its end.
    ssize_t length = recv(fd_.get(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? 0 : errno;
    std::vector<uint8_t> datagram(static_cast<size_t>(length));
    struct sockaddr_nl from = {};
    socklen_t from_size = sizeof(from);
    length = recvfrom(fd_.get(), datagram.data(), datagram.size(), MSG_TRUNC,
                      reinterpret_cast<struct sockaddr*>(&from), &from_size);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? 0 : errno;
    if (static_cast<size_t>(length) != datagram.size() || !IsFromKernel(from)) continue;
    datagrams.push_back(std::move(datagram));
  }
  return 0;
}

Napi::Value NetlinkSocket::Receive(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "NetlinkSocket.receive");
  std::vector<std::vector<uint8_t>> datagrams;
  int error = ReceiveAll(datagrams);
  // After an overrun everything is asked for anew, so what came before it is not missed.
  if (error != 0) call.FailErrno(error);
  Napi::Array result = Napi::Array::New(call.env, datagrams.size());
  for (uint32_t i = 0; i < datagrams.size(); i++) {
    result.Set(i, MakeBytes(call.env, datagrams[i].data(), datagrams[i].size()));
  }
  return result;
}

void NetlinkSocket::OnReadable(const Napi::CallbackInfo& info) {
  Call call = Begin(info, "NetlinkSocket.onReadable");
  if (!info[0].IsNull() && !info[0].IsFunction()) {
    call.Fail(Code::kBadArgument, "callback must be a function or null");
  }
  if (info[0].IsNull()) {
    StopWatching();
    callback_.Reset();
    return;
  }
  if (watcher_ == nullptr) StartWatching(call);
  callback_ = Napi::Persistent(info[0].As<Napi::Function>());
}

void NetlinkSocket::StartWatching(const Call& call) {
  const char* type = uv_handle_type_name(kUvPoll);
  if (type == nullptr || std::strcmp(type, "poll") != 0) {
    call.Fail(Code::kNotSupported, "this libuv numbers its handles differently");
  }
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(call.env, &loop) != napi_ok) {
    call.Fail(Code::kNotSupported, "this runtime has no libuv loop");
  }
  auto watcher = std::make_unique<Watcher>();
  watcher->registry = registry_;
  watcher->socket = this;
  watcher->memory = std::make_unique<char[]>(uv_handle_size(kUvPoll));
  // libuv's errors are negative errnos.
  int error = uv_poll_init(loop, watcher->handle(), fd_.get());
  if (error != 0) call.FailErrno(error, "uv_poll_init");
  watcher_ = watcher.release();
  uv_handle_set_data(watcher_->handle(), watcher_);
  uv_unref(watcher_->handle());
  error = uv_poll_start(watcher_->handle(), kUvReadable, OnPoll);
  if (error != 0) {
    StopWatching();
    call.FailErrno(error, "uv_poll_start");
  }
}

void NetlinkSocket::StopWatching() {
  Watcher* watcher = std::exchange(watcher_, nullptr);
  if (watcher == nullptr) return;
  watcher->socket = nullptr;
  watcher->registry->BeginHandleClose();
  uv_close(watcher->handle(), OnWatcherClosed);
}

void NetlinkSocket::OnWatcherClosed(uv_handle_opaque* handle) {
  std::unique_ptr<Watcher> watcher(static_cast<Watcher*>(uv_handle_get_data(handle)));
  watcher->registry->EndHandleClose();
}

void NetlinkSocket::OnPoll(uv_handle_opaque* handle, int status, int) {
  Watcher* watcher = static_cast<Watcher*>(uv_handle_get_data(handle));
  if (watcher->socket == nullptr) return;
  // An overrun (ENOBUFS) is POLLERR, on which libuv stops watching; receive() reports and clears
  // it.
  if (status < 0) uv_poll_start(handle, kUvReadable, OnPoll);
  watcher->socket->Notify();
}

void NetlinkSocket::Notify() {
  napi_env env = Env();
  Napi::HandleScope scope(env);
  // From here on the callback may close or even drop this socket: nothing of it is touched after.
  // No C++ exceptions here: libuv calls, and there is no JavaScript below that could catch them.
  napi_value callback = callback_.Value();
  napi_value receiver = Value();
  napi_value result = nullptr;
  napi_status status = napi_make_callback(env, nullptr, receiver, callback, 0, nullptr, &result);
  if (status != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

void NetlinkSocket::Close(const Napi::CallbackInfo&) { Release(); }

}  // namespace pointsman
