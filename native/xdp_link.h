// XdpLink: the attachment of a program to an interface, by its descriptor. Knows nothing of what
// the program does, and keeps neither object nor program alive: the kernel does.

#pragma once

#include <napi.h>

#include <string>

#include "error.h"
#include "fd.h"
#include "instance.h"

namespace pointsman {

class XdpLink : public Napi::ObjectWrap<XdpLink>, private Resource {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  explicit XdpLink(const Napi::CallbackInfo& info);
  void ReleaseAtExit() override { fd_.Reset(); }

 private:
  struct State {
    Fd fd;
    std::string name;
  };

  static Napi::Value Attach(const Napi::CallbackInfo& info);
  static Napi::Value Open(const Napi::CallbackInfo& info);

  Napi::Value Info(const Napi::CallbackInfo& info);
  void Update(const Napi::CallbackInfo& info);
  void Pin(const Napi::CallbackInfo& info);
  void Detach(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  Call Begin(const Napi::CallbackInfo& info, const char* operation) const;

  Fd fd_;
  /** The interface's index or the pin's path, for errors. */
  std::string name_;
};

}  // namespace pointsman
