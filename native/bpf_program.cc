// BpfObject once it is loaded: what its programs are, test runs of them, and pins.

#include <bpf/bpf.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <vector>

#include "arguments.h"
#include "bpf_object.h"
#include "options.h"
#include "pins.h"

namespace pointsman {

int BpfObject::ProgramFd(const Call& call, const std::string& name) const {
  if (stage_ != Stage::kLoaded) call.Fail(Code::kBadState, "the object is not loaded");
  int fd = bpf_program__fd(FindProgram(call, name));
  if (fd < 0) call.Fail(Code::kBadState, "program " + name + " was not loaded");
  return fd;
}

Napi::Value BpfObject::ProgramInfo(const Napi::CallbackInfo& info) {
  Call call = BeginLoaded(info, "BpfObject.programInfo");
  int fd = ProgramFd(call, ReadString(call, info[0], "name"));
  struct bpf_prog_info kernel = {};
  uint32_t length = sizeof(kernel);
  int error = bpf_obj_get_info_by_fd(fd, &kernel, &length);
  if (error != 0) call.FailErrno(error);
  std::string tag;
  for (uint8_t byte : kernel.tag) {
    char hex[3];
    snprintf(hex, sizeof(hex), "%02x", byte);
    tag += hex;
  }
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("id", kernel.id);
  result.Set("name", std::string(kernel.name, strnlen(kernel.name, sizeof(kernel.name))));
  result.Set("tag", tag);
  result.Set("xlatedInstructions", kernel.xlated_prog_len / sizeof(struct bpf_insn));
  result.Set("jitedBytes", kernel.jited_prog_len);
  result.Set("verifiedInstructions", kernel.verified_insns);
  return result;
}

namespace {

struct TestRunSettings {
  uint32_t repeat;
  uint32_t flags;
  uint32_t output_size_max;
  uint32_t batch_size;
  Napi::Value context;
};

TestRunSettings ReadSettings(const Call& call, Napi::Value value) {
  Napi::Object options = ReadObject(call, value, "options");
  TestRunSettings settings;
  settings.repeat = ReadUint32(call, Property(options, "repeat"), "repeat");
  settings.flags = ReadUint32(call, Property(options, "flags"), "flags");
  settings.context = Property(options, "context");
  settings.output_size_max = ReadUint32(call, Property(options, "outputSizeMax"), "outputSizeMax");
  settings.batch_size = ReadUint32(call, Property(options, "batchSize"), "batchSize");
  if (settings.repeat < 1 || settings.repeat > INT_MAX) {
    call.Fail(Code::kBadArgument, "repeat must be from 1 to 2147483647");
  }
  return settings;
}

}  // namespace

Napi::Value BpfObject::TestRun(const Napi::CallbackInfo& info) {
  Call call = BeginLoaded(info, "BpfObject.testRun");
  std::string name = ReadString(call, info[0], "program");
  TestRunSettings settings = ReadSettings(call, info[2]);
  // The options may have had getters, and a getter may have closed this object.
  RequireOpen(call);
  int fd = ProgramFd(call, name);
  Bytes packet = ReadBytes(call, info[1], "packet");
  auto options = Options<bpf_test_run_opts>();
  options.data_in = packet.data;
  options.data_size_in = static_cast<uint32_t>(packet.size);
  options.repeat = static_cast<int>(settings.repeat);
  options.flags = settings.flags;
  options.batch_size = settings.batch_size;
  bool live = (settings.flags & BPF_F_TEST_XDP_LIVE_FRAMES) != 0;
  std::vector<uint8_t> context;
  if (!settings.context.IsNull()) {
    Bytes given = ReadBytes(call, settings.context, "context");
    context.assign(given.data, given.data + given.size);
    options.ctx_in = given.data;
    options.ctx_size_in = static_cast<uint32_t>(given.size);
    // Live frames have no context afterwards, and the kernel refuses to be asked for one.
    if (!live) {
      options.ctx_out = context.data();
      options.ctx_size_out = static_cast<uint32_t>(context.size());
    }
  }
  std::vector<uint8_t> output(settings.output_size_max);
  if (!output.empty()) {
    options.data_out = output.data();
    options.data_size_out = settings.output_size_max;
  }
  int error = bpf_prog_test_run_opts(fd, &options);
  if (error == -ENOSPC && !output.empty()) {
    call.FailErrno(error, "outputSizeMax is too small for a packet of " +
                              std::to_string(options.data_size_out) + " bytes");
  }
  if (error != 0) call.FailErrno(error, name);
  Napi::Object result = Napi::Object::New(call.env);
  result.Set("action", options.retval);
  result.Set("output", output.empty() ? call.env.Null()
                                      : MakeBytes(call.env, output.data(), options.data_size_out)
                                            .As<Napi::Value>());
  result.Set("context", options.ctx_out == nullptr
                            ? call.env.Null()
                            : MakeBytes(call.env, context.data(), options.ctx_size_out)
                                  .As<Napi::Value>());
  result.Set("durationNs", options.duration);
  return result;
}

void BpfObject::PinProgram(const Napi::CallbackInfo& info) {
  Call call = BeginLoaded(info, "BpfObject.pinProgram");
  std::string name = ReadString(call, info[0], "name");
  std::string path = ReadString(call, info[1], "path");
  PinFd(call, ProgramFd(call, name), path);
}

}  // namespace pointsman
