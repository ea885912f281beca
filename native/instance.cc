// The registry of open resources and its end. The order matters: the newest first, since what was
// opened later may depend on what was opened before.

#include "instance.h"

namespace pointsman {

Resource::Resource(std::shared_ptr<Registry> registry) : registry_(std::move(registry)) {
  place_ = registry_->resources_.insert(registry_->resources_.begin(), this);
}

Resource::~Resource() { registry_->resources_.erase(place_); }

void Registry::InstallCleanupHook(Napi::Env env) {
  kept_for_hook_ = shared_from_this();
  if (napi_add_async_cleanup_hook(env, OnEnvironmentEnd, this, &hook_) != napi_ok) {
    kept_for_hook_.reset();
    throw Napi::Error::New(env, "the environment takes no cleanup hook");
  }
}

void Registry::OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* registry) {
  Registry* self = static_cast<Registry*>(registry);
  self->ended_ = true;
  for (Resource* resource : self->resources_) resource->ReleaseAtExit();
  self->FinishWhenIdle();
}

void Registry::EndHandleClose() {
  handles_closing_--;
  FinishWhenIdle();
}

void Registry::FinishWhenIdle() {
  // node asserts that a worker's loop has no handle left, so the hook ends with the last of them.
  if (!ended_ || handles_closing_ > 0 || kept_for_hook_ == nullptr) return;
  std::shared_ptr<Registry> kept = std::move(kept_for_hook_);
  napi_remove_async_cleanup_hook(hook_);
}

}  // namespace pointsman
