// What libbpf says during one operation, kept instead of printed. Knows libbpf's print hook and the
// frame it puts around a verifier log; nothing is ever written to stderr.

#pragma once

#include <string>

namespace pointsman {

/** Installs the hook, once per process. */
void InstallLogCapture();

/**
 * Collects the warnings of this thread for as long as it lives. Captures nest: the inner one hears.
 */
class LogCapture {
 public:
  LogCapture();
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  struct Verifier {
    std::string program;
    /** Empty when the kernel did not get as far as the verifier. */
    std::string log;
  };
  /** The last verifier log in what was said. */
  Verifier VerifierLog() const;
  /** The warnings in one line, cut to a readable length. */
  std::string Summary() const;
  /** The map whose BTF the kernel refused, and that libbpf made without it; empty for none. */
  std::string MapWithoutBtf() const;

  std::string& text() { return text_; }

 private:
  std::string text_;
  LogCapture* outer_;
};

}  // namespace pointsman
