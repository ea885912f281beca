// What the addon keeps per environment (the main thread, and each worker that loads it): the class
// constructors and the list of open resources. Knows how environments end; knows nothing of BPF.

#pragma once

#include <napi.h>

#include <list>
#include <memory>
#include <utility>

#include "error.h"

namespace pointsman {

class Registry;

/** Something that holds file descriptors. In the registry for as long as its object lives. */
class Resource {
 public:
  explicit Resource(std::shared_ptr<Registry> registry);
  virtual ~Resource();
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;

  /** The environment ends: free what the process would not, without touching JavaScript. */
  virtual void ReleaseAtExit() = 0;

 protected:
  std::shared_ptr<Registry> registry_;

 private:
  friend class Registry;
  std::list<Resource*>::iterator place_;
};

/**
 * The open resources of one environment. Shared by them, since finalizers run in any order and the
 * last resource may go after the instance.
 */
class Registry : public std::enable_shared_from_this<Registry> {
 public:
  /** Closes everything when the environment ends, and holds its end up until libuv let go. */
  void InstallCleanupHook(Napi::Env env);

  /** A libuv handle is being closed; the loop must not go before it is told. */
  void BeginHandleClose() { handles_closing_++; }
  void EndHandleClose();

 private:
  friend class Resource;
  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* registry);
  void FinishWhenIdle();

  std::list<Resource*> resources_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::shared_ptr<Registry> kept_for_hook_;
  int handles_closing_ = 0;
  bool ended_ = false;
};

/** The classes, in the order of native.ts. */
enum class Class { kBpfMap, kBpfObject, kXdpLink, kRingBuffer, kNetlinkSocket, kCount };

class Instance {
 public:
  Instance() : registry_(std::make_shared<Registry>()) {}
  static Instance& Of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  const std::shared_ptr<Registry>& registry() const { return registry_; }
  void SetConstructor(Class which, Napi::Function constructor) {
    constructors_[static_cast<size_t>(which)] = Napi::Persistent(constructor);
  }

  /** Makes an object of a class around `state`, which its constructor takes with Take(). */
  template <typename State>
  Napi::Object Make(Class which, State state) {
    making_ = &state;
    struct Unset {
      void*& making;
      ~Unset() { making = nullptr; }
    } unset{making_};
    return constructors_[static_cast<size_t>(which)].New({});
  }
  /** The state of the object that is being made; `new` from JavaScript has none and fails. */
  template <typename State>
  State Take(const Call& call) {
    void* making = std::exchange(making_, nullptr);
    if (making == nullptr) call.Fail(Code::kBadArgument, "has no public constructor");
    return std::move(*static_cast<State*>(making));
  }

 private:
  std::shared_ptr<Registry> registry_;
  Napi::FunctionReference constructors_[static_cast<size_t>(Class::kCount)];
  void* making_ = nullptr;
};

}  // namespace pointsman
