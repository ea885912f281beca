// What the addon throws: one shape, { code, errno, operation, object, log }, built in one place.
// Knows the codes of native.ts and how errno maps to them; never decides what a failure means.

#pragma once

#include <napi.h>

#include <string>

namespace pointsman {

/** The names of NativeCode in src/dataplane/xdp/native.ts, in its order. */
enum class Code {
  kClosed, kBadArgument, kBadSize, kBadState, kNotFound, kPermission, kExists, kBusy,
  kVerifier, kFull, kNotSupported, kSystem,
};

const char* CodeName(Code code);
Code CodeOfErrno(int error);

/** One call from JavaScript: what is attempted, on what. Every failure of the call starts here. */
struct Call {
  Napi::Env env;
  const char* operation;
  /** The name of a map, program or path; by value, since what owns it may be closed meanwhile. */
  std::string object;

  /** Throws with no errno. */
  [[noreturn]] void Fail(Code code, const std::string& reason) const;
  /** Throws what `error` (positive or negative errno) maps to; `detail` may be empty. */
  [[noreturn]] void FailErrno(int error, const std::string& detail = "") const;
  [[noreturn]] void FailVerifier(int error, const std::string& program,
                                 const std::string& log) const;
};

/** The error as a value, for a promise to be rejected with. An empty log becomes null. */
Napi::Error MakeError(Napi::Env env, Code code, int error, const std::string& operation,
                      const std::string& object, const std::string& reason,
                      const std::string& log);

/** strerror() and libbpf's own codes from 4000 upwards. */
std::string ErrnoText(int error);

}  // namespace pointsman
