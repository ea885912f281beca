// BpfObject: an object file, from open through its settings to load, and its programs afterwards.
// Owns the maps it hands out: closing it closes them first. Never knows what the maps or programs
// are for.

#pragma once

#include <bpf/libbpf.h>
#include <napi.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "error.h"
#include "instance.h"
#include "log_capture.h"

namespace pointsman {

class BpfMap;

class BpfObject : public Napi::ObjectWrap<BpfObject>, private Resource {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  /**
   * The object in an argument; BAD_ARGUMENT when it is something else, CLOSED when it is closed.
   */
  static BpfObject* Read(const Call& call, Napi::Value value, const char* name);

  explicit BpfObject(const Napi::CallbackInfo& info);
  ~BpfObject() override;

  /** The descriptor of a loaded program: NOT_FOUND, or BAD_STATE when it is not loaded. */
  int ProgramFd(const Call& call, const std::string& program) const;
  /** A child was closed or collected. */
  void Forget(BpfMap* child);
  void ReleaseAtExit() override;

 private:
  struct Free {
    void operator()(struct bpf_object* object) const { bpf_object__close(object); }
  };
  using Object = std::unique_ptr<struct bpf_object, Free>;
  struct State {
    std::string path;
    Object object;
  };
  /** Failed: libbpf tries a load once only. */
  enum class Stage { kOpened, kLoaded, kFailed };

  static Napi::Value Open(const Napi::CallbackInfo& info);

  Napi::Value MapNames(const Napi::CallbackInfo& info);
  Napi::Value ProgramNames(const Napi::CallbackInfo& info);
  Napi::Value Section(const Napi::CallbackInfo& info);
  void SetSection(const Napi::CallbackInfo& info);
  void SetMaxEntries(const Napi::CallbackInfo& info);
  void ReuseMap(const Napi::CallbackInfo& info);
  void SetAutoload(const Napi::CallbackInfo& info);
  void Load(const Napi::CallbackInfo& info);
  Napi::Value Map(const Napi::CallbackInfo& info);
  Napi::Value ProgramInfo(const Napi::CallbackInfo& info);
  Napi::Value TestRun(const Napi::CallbackInfo& info);
  void PinProgram(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /** The beginning of every method: CLOSED, or a Call that names this object. */
  Call Begin(const Napi::CallbackInfo& info, const char* operation) const;
  Call BeginOpened(const Napi::CallbackInfo& info, const char* operation) const;
  Call BeginLoaded(const Napi::CallbackInfo& info, const char* operation) const;
  void RequireOpen(const Call& call) const;
  struct bpf_map* FindMap(const Call& call, const std::string& name) const;
  bool NamesInnerPrototype(const std::string& name) const;
  struct bpf_program* FindProgram(const Call& call, const std::string& name) const;
  [[noreturn]] void FailLoad(const Call& call, int error, const LogCapture& log) const;
  void CloseChildren();

  std::string path_;
  Object object_;
  Stage stage_ = Stage::kOpened;
  /** Names as in the file, in its order: libbpf forgets one when a live map takes its place. */
  std::vector<std::pair<std::string, struct bpf_map*>> maps_;
  std::map<std::string, BpfMap*> children_;
};

}  // namespace pointsman
