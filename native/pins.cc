// BPF_OBJ_GET and BPF_OBJ_PIN. The kernel hands out whatever is pinned, so the kind is checked by
// the descriptor's name in /proc: asking a map's descriptor for a link's information would succeed.

#include "pins.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>

namespace pointsman {

namespace {

std::string DescriptorName(const Call& call, int fd) {
  char name[64];
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  ssize_t length = readlink(path.c_str(), name, sizeof(name));
  if (length < 0) call.FailErrno(errno, path);
  return std::string(name, static_cast<size_t>(length));
}

}  // namespace

Fd OpenPin(const Call& call, const std::string& path, Pinned wanted) {
  int opened = bpf_obj_get(path.c_str());
  if (opened < 0) call.FailErrno(opened);
  Fd fd(opened);
  std::string name = DescriptorName(call, fd.get());
  // The kernel wrote "bpf_link" before it wrote "bpf-link".
  bool fits = wanted == Pinned::kMap
                  ? name == "anon_inode:bpf-map"
                  : name == "anon_inode:bpf_link" || name == "anon_inode:bpf-link";
  if (!fits) {
    std::string kind = wanted == Pinned::kMap ? "map" : "link";
    call.Fail(Code::kBadArgument, "not a " + kind + " but " + name);
  }
  return fd;
}

void PinFd(const Call& call, int fd, const std::string& path) {
  int error = bpf_obj_pin(fd, path.c_str());
  if (error != 0) call.FailErrno(error, path);
}

}  // namespace pointsman
