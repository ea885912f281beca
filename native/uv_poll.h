// The few functions of libuv's stable 1.x interface that watch a descriptor. node exports them, but
// neither node-api-headers nor every distribution's node ships uv.h, and the build must not
// download it. So they are declared here, with handles as opaque memory of the size that libuv
// itself reports.

#pragma once

#include <cstddef>

struct uv_loop_s;

extern "C" {
struct uv_handle_opaque;
using uv_poll_function = void (*)(uv_handle_opaque* handle, int status, int events);
using uv_close_function = void (*)(uv_handle_opaque* handle);

size_t uv_handle_size(int type);
const char* uv_handle_type_name(int type);
void uv_handle_set_data(uv_handle_opaque* handle, void* data);
void* uv_handle_get_data(const uv_handle_opaque* handle);
int uv_poll_init(uv_loop_s* loop, uv_handle_opaque* handle, int fd);
int uv_poll_start(uv_handle_opaque* handle, int events, uv_poll_function function);
void uv_unref(uv_handle_opaque* handle);
void uv_close(uv_handle_opaque* handle, uv_close_function function);
}

namespace pointsman {

/** UV_POLL in enum uv_handle_type; checked by its name before the first use. */
constexpr int kUvPoll = 8;
/** UV_READABLE in enum uv_poll_event. */
constexpr int kUvReadable = 1;

}  // namespace pointsman
