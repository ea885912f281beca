// gracePeriod(): waits, in a libuv worker, until every program run that began before has ended. Two
// ways to have the kernel wait for RCU: membarrier(2), or a change of a map-in-map, whose system
// call returns only when no program can still hold the old inner map. Sleepable programs are not
// covered.

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "error.h"
#include "fd.h"
#include "options.h"
#include "system.h"

namespace pointsman {

namespace {

/** 0, or a negative errno of the system call that failed. */
int WaitByMapInMap() {
  Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", 4, 4, 1, nullptr));
  if (!inner.valid()) return inner.get();
  auto options = Options<bpf_map_create_opts>();
  options.inner_map_fd = static_cast<uint32_t>(inner.get());
  Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_outer", 4, 4, 1, &options));
  if (!outer.valid()) return outer.get();
  uint32_t key = 0;
  uint32_t fd = static_cast<uint32_t>(inner.get());
  return bpf_map_update_elem(outer.get(), &key, &fd, BPF_ANY);
}

class Wait : public Napi::AsyncWorker {
 public:
  explicit Wait(Napi::Env env)
      : Napi::AsyncWorker(env, "pointsman.gracePeriod"),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    // Refused where a sandbox forbids it, and by kernels with nohz_full CPUs.
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
    membarrier_errno_ = errno;
    error_ = WaitByMapInMap();
  }
  void OnOK() override {
    if (error_ == 0) {
      deferred_.Resolve(Env().Undefined());
      return;
    }
    deferred_.Reject(MakeError(Env(), CodeOfErrno(-error_), -error_, "gracePeriod", "",
                               "membarrier: " + ErrnoText(membarrier_errno_) +
                                   "; map-in-map: " + ErrnoText(-error_),
                               "")
                         .Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  int membarrier_errno_ = 0;
  int error_ = 0;
};

}  // namespace

Napi::Value GracePeriod(const Napi::CallbackInfo& info) {
  auto wait = new Wait(info.Env());
  Napi::Promise promise = wait->promise();
  // It deletes itself when it is done.
  wait->Queue();
  return promise;
}

}  // namespace pointsman
