// Pins: names of BPF maps, programs and links in a bpffs. Knows how to tell the kinds apart.

#pragma once

#include <string>

#include "error.h"
#include "fd.h"

namespace pointsman {

enum class Pinned { kMap, kLink };

/** Opens a pin; BAD_ARGUMENT when something of another kind is pinned there. */
Fd OpenPin(const Call& call, const std::string& path, Pinned wanted);
/** Fails with EXISTS when the path is taken. */
void PinFd(const Call& call, int fd, const std::string& path);

}  // namespace pointsman
