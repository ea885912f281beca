// libbpf's option structs in C++, where its LIBBPF_OPTS macro (a C compound literal) does not
// belong.

#pragma once

#include <cstring>

namespace pointsman {

/** All zero but for the size, by which libbpf knows the version that the caller was built with. */
template <typename T>
T Options() {
  T options;
  std::memset(&options, 0, sizeof(options));
  options.sz = sizeof(options);
  return options;
}

}  // namespace pointsman
