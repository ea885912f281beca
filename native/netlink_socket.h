// NetlinkSocket: raw netlink datagrams in and out. The codec is TypeScript's; this knows sockets
// and the event loop, and no message type.

#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "error.h"
#include "fd.h"
#include "instance.h"
#include "uv_poll.h"

namespace pointsman {

class NetlinkSocket : public Napi::ObjectWrap<NetlinkSocket>, private Resource {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  explicit NetlinkSocket(const Napi::CallbackInfo& info);
  ~NetlinkSocket() override;
  void ReleaseAtExit() override;

 private:
  struct State {
    Fd fd;
    std::string name;
  };
  /** The watcher of the event loop. Outlives the socket until libuv has closed it. */
  struct Watcher {
    std::shared_ptr<Registry> registry;
    NetlinkSocket* socket;
    std::unique_ptr<char[]> memory;
    uv_handle_opaque* handle() { return reinterpret_cast<uv_handle_opaque*>(memory.get()); }
  };

  static Napi::Value Open(const Napi::CallbackInfo& info);
  static void OnPoll(uv_handle_opaque* handle, int status, int events);
  static void OnWatcherClosed(uv_handle_opaque* handle);

  void Send(const Napi::CallbackInfo& info);
  Napi::Value Receive(const Napi::CallbackInfo& info);
  void OnReadable(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  Call Begin(const Napi::CallbackInfo& info, const char* operation) const;
  void StartWatching(const Call& call);
  void StopWatching();
  void Notify();
  void Release();
  int ReceiveAll(std::vector<std::vector<uint8_t>>& datagrams);

  Fd fd_;
  std::string name_;
  Watcher* watcher_ = nullptr;
  Napi::FunctionReference callback_;
};

}  // namespace pointsman
