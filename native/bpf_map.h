// BpfMap: one BPF map by its file descriptor. Knows sizes, which the kernel told it; never what a
// key or a value means.

#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "fd.h"
#include "instance.h"

namespace pointsman {

class BpfObject;

/** What the kernel says of a map; read once, since none of it can change. */
struct MapShape {
  uint32_t id = 0;
  std::string name;
  uint32_t type = 0;
  uint32_t key_size = 0;
  uint32_t value_size = 0;
  uint32_t max_entries = 0;
  uint32_t flags = 0;

  bool IsPerCpu() const;
  bool HoldsMaps() const;
  /** Whether its values are file descriptors or their like, which JavaScript must not make up. */
  bool HoldsFds() const;
  /** Bytes of one value as the bpf() syscall copies it. */
  size_t ValueBytes() const;
  /** Bytes of the cursor of a batch. */
  size_t CursorBytes() const;
};

/** Asks the kernel; fails with the errno. */
MapShape ReadMapShape(const Call& call, int fd);

class BpfMap : public Napi::ObjectWrap<BpfMap>, private Resource {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  /**
   * A BpfMap made from a descriptor that is handed over. `owner` is null for a map that stands
   * alone.
   */
  static Napi::Object Make(const Call& call, Fd fd, BpfObject* owner);
  /** The map in an argument; BAD_ARGUMENT when it is something else, CLOSED when it is closed. */
  static BpfMap* Read(const Call& call, Napi::Value value, const char* name);

  explicit BpfMap(const Napi::CallbackInfo& info);
  ~BpfMap() override;

  bool IsOpen() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  const MapShape& shape() const { return shape_; }
  /** Closes the descriptor and detaches the memory that JavaScript has of it. */
  void Release();
  /** The owner goes without closing its children, as when it was garbage. */
  void Orphan() { owner_ = nullptr; }
  void ReleaseAtExit() override;

 private:
  struct State {
    Fd fd;
    MapShape shape;
    BpfObject* owner;
  };

  static Napi::Value Create(const Napi::CallbackInfo& info);
  static Napi::Value Open(const Napi::CallbackInfo& info);

  Napi::Value Info(const Napi::CallbackInfo& info);
  Napi::Value Lookup(const Napi::CallbackInfo& info);
  void Update(const Napi::CallbackInfo& info);
  Napi::Value Delete(const Napi::CallbackInfo& info);
  Napi::Value NextKey(const Napi::CallbackInfo& info);
  Napi::Value LookupBatch(const Napi::CallbackInfo& info);
  Napi::Value UpdateBatch(const Napi::CallbackInfo& info);
  Napi::Value DeleteBatch(const Napi::CallbackInfo& info);
  void UpdateInner(const Napi::CallbackInfo& info);
  Napi::Value Mmap(const Napi::CallbackInfo& info);
  void Pin(const Napi::CallbackInfo& info);
  void Freeze(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /** The beginning of every method: CLOSED, or a Call that names this map. */
  Call Begin(const Napi::CallbackInfo& info, const char* operation) const;
  void RefuseFds(const Call& call) const;

  Fd fd_;
  MapShape shape_;
  BpfObject* owner_ = nullptr;
  /** Weak: the memory belongs to the ArrayBuffer, and is unmapped when that is gone. */
  Napi::Reference<Napi::ArrayBuffer> memory_;
};

}  // namespace pointsman
