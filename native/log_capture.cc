// The print hook: libbpf has one for the whole process, so it writes to a buffer per thread.

#include "log_capture.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace pointsman {

namespace {

constexpr size_t kSummaryBytesMax = 600;
constexpr char kBegin[] = "-- BEGIN PROG LOAD LOG --\n";
constexpr char kEnd[] = "-- END PROG LOAD LOG --";
constexpr char kProgramBegin[] = "prog '";
constexpr char kWithoutBtf[] = "Retrying without BTF";
constexpr char kMapBegin[] = "Error in bpf_create_map_xattr(";

thread_local LogCapture* listening = nullptr;

__attribute__((format(printf, 2, 0)))
int Print(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (listening == nullptr || level != LIBBPF_WARN) return 0;
  va_list counted;
  va_copy(counted, arguments);
  int length = vsnprintf(nullptr, 0, format, counted);
  va_end(counted);
  if (length <= 0) return 0;
  std::string& text = listening->text();
  size_t before = text.size();
  text.resize(before + static_cast<size_t>(length) + 1);
  vsnprintf(&text[before], static_cast<size_t>(length) + 1, format, arguments);
  text.resize(before + static_cast<size_t>(length));
  return length;
}

std::string Between(const std::string& text, size_t from, char end) {
  size_t stop = text.find(end, from);
  return stop == std::string::npos ? "" : text.substr(from, stop - from);
}

}  // namespace

void InstallLogCapture() {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_set_print(Print); });
}

LogCapture::LogCapture() : outer_(listening) { listening = this; }

LogCapture::~LogCapture() { listening = outer_; }

LogCapture::Verifier LogCapture::VerifierLog() const {
  size_t begin = text_.rfind(kBegin);
  if (begin == std::string::npos) return {};
  size_t log = begin + sizeof(kBegin) - 1;
  size_t end = text_.find(kEnd, log);
  size_t name = text_.rfind(kProgramBegin, begin);
  Verifier verifier;
  verifier.log = text_.substr(log, end == std::string::npos ? end : end - log);
  if (name != std::string::npos) {
    verifier.program = Between(text_, name + sizeof(kProgramBegin) - 1, '\'');
  }
  return verifier;
}

std::string LogCapture::Summary() const {
  std::string line;
  for (char letter : text_) {
    if (line.size() == kSummaryBytesMax) {
      line += "…";
      break;
    }
    line += letter == '\n' ? ' ' : letter;
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

std::string LogCapture::MapWithoutBtf() const {
  size_t found = text_.find(kWithoutBtf);
  if (found == std::string::npos) return "";
  size_t map = text_.rfind(kMapBegin, found);
  if (map == std::string::npos) return "?";
  return Between(text_, map + sizeof(kMapBegin) - 1, ')');
}

}  // namespace pointsman
