// The one place where errors are built: errno to code, and the properties that JavaScript reads.
// Knows no class and no operation.

#include "error.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace pointsman {

namespace {

// The kernel's own ENOTSUPP, which it leaks to user space for map types without batch operations.
constexpr int kKernelNotSupported = 524;
// libbpf's codes (enum libbpf_errno) begin here; the kernel's end before.
constexpr int kLibbpfErrnoFirst = 4000;

}  // namespace

const char* CodeName(Code code) {
  switch (code) {
    case Code::kClosed: return "CLOSED";
    case Code::kBadArgument: return "BAD_ARGUMENT";
    case Code::kBadSize: return "BAD_SIZE";
    case Code::kBadState: return "BAD_STATE";
    case Code::kNotFound: return "NOT_FOUND";
    case Code::kPermission: return "PERMISSION";
    case Code::kExists: return "EXISTS";
    case Code::kBusy: return "BUSY";
    case Code::kVerifier: return "VERIFIER";
    case Code::kFull: return "FULL";
    case Code::kNotSupported: return "NOT_SUPPORTED";
    case Code::kSystem: return "SYSTEM";
  }
  return "SYSTEM";
}

Code CodeOfErrno(int error) {
  // A file that libbpf cannot read as a BPF object.
  if (error >= kLibbpfErrnoFirst) return Code::kBadArgument;
  switch (error) {
    case ENOENT: case ENODEV: return Code::kNotFound;
    case EPERM: case EACCES: return Code::kPermission;
    case EEXIST: return Code::kExists;
    case EBUSY: return Code::kBusy;
    case E2BIG: case ENOSPC: return Code::kFull;
    case EOPNOTSUPP: case ENOSYS: case kKernelNotSupported: return Code::kNotSupported;
    default: return Code::kSystem;
  }
}

std::string ErrnoText(int error) {
  if (error == kKernelNotSupported) return "not supported by the kernel for this kind of object";
  char text[256];
  libbpf_strerror(error, text, sizeof(text));
  return text;
}

Napi::Error MakeError(Napi::Env env, Code code, int error, const std::string& operation,
                      const std::string& object, const std::string& reason,
                      const std::string& log) {
  std::string message = operation + (object.empty() ? "" : " " + object) + ": " + reason;
  Napi::Error built = Napi::Error::New(env, message);
  Napi::Object value = built.Value();
  value.Set("code", Napi::String::New(env, CodeName(code)));
  value.Set("errno", Napi::Number::New(env, error));
  value.Set("operation", Napi::String::New(env, operation));
  value.Set("object", Napi::String::New(env, object));
  value.Set("log", log.empty() ? env.Null() : Napi::String::New(env, log).As<Napi::Value>());
  return built;
}

void Call::Fail(Code code, const std::string& reason) const {
  throw MakeError(env, code, 0, operation, object, reason, "");
}

void Call::FailErrno(int error, const std::string& detail) const {
  error = std::abs(error);
  std::string reason = ErrnoText(error);
  if (!detail.empty()) reason += " (" + detail + ")";
  throw MakeError(env, CodeOfErrno(error), error < kLibbpfErrnoFirst ? error : 0, operation, object,
                  reason, "");
}

void Call::FailVerifier(int error, const std::string& program, const std::string& log) const {
  throw MakeError(env, Code::kVerifier, std::abs(error), operation, program,
                  "the verifier refused the program", log);
}

}  // namespace pointsman
