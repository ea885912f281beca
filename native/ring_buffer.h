// RingBuffer: the consumer's side of a BPF ring buffer. Records are copied out; what they mean is
// JavaScript's business.

#pragma once

#include <bpf/libbpf.h>
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "error.h"
#include "instance.h"

namespace pointsman {

class RingBuffer : public Napi::ObjectWrap<RingBuffer>, private Resource {
 public:
  static void Define(Napi::Env env, Napi::Object exports);
  explicit RingBuffer(const Napi::CallbackInfo& info);
  void ReleaseAtExit() override { reader_.reset(); }

 private:
  /** What one consume() gathers. */
  struct Gathered {
    std::vector<std::vector<uint8_t>> records;
    size_t max = 0;
  };
  struct Free {
    void operator()(struct ring_buffer* reader) const { ring_buffer__free(reader); }
  };
  using Reader = std::unique_ptr<struct ring_buffer, Free>;
  struct State {
    std::string name;
    /** On the heap, since the reader keeps its address. */
    std::unique_ptr<Gathered> gathered;
    Reader reader;
  };

  static Napi::Value Open(const Napi::CallbackInfo& info);
  static int OnRecord(void* gathered, void* data, size_t size);

  Napi::Value Consume(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::string name_;
  std::unique_ptr<Gathered> gathered_;
  Reader reader_;
};

}  // namespace pointsman
