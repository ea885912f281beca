// Arguments from JavaScript, checked: a value of the wrong type is BAD_ARGUMENT, bytes of the wrong
// length are BAD_SIZE, undefined is never accepted. Knows types and ranges, no class's meaning.

#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "error.h"

namespace pointsman {

/** The bytes of a Uint8Array; valid until JavaScript runs again. */
struct Bytes {
  const uint8_t* data;
  size_t size;
};

/** A non-empty string without a NUL byte. */
std::string ReadString(const Call& call, Napi::Value value, const char* name);
/** A safe integer from 0 to 2^32 - 1. */
uint32_t ReadUint32(const Call& call, Napi::Value value, const char* name);
bool ReadBoolean(const Call& call, Napi::Value value, const char* name);
Bytes ReadBytes(const Call& call, Napi::Value value, const char* name);
/** The same, exactly `size` bytes long. */
Bytes ReadBytes(const Call& call, Napi::Value value, const char* name, size_t size);
Napi::Object ReadObject(const Call& call, Napi::Value value, const char* name);
/** A property of such an object; a misspelt one is undefined, so the reader refuses it. */
Napi::Value Property(Napi::Object object, const char* name);

/** A new Uint8Array of exactly these bytes. */
Napi::Uint8Array MakeBytes(Napi::Env env, const void* data, size_t size);

}  // namespace pointsman
