// The checks behind arguments.h.

#include "arguments.h"

#include <cmath>
#include <cstring>

namespace pointsman {

namespace {

[[noreturn]] void FailType(const Call& call, const char* name, const char* wanted) {
  call.Fail(Code::kBadArgument, std::string(name) + " must be " + wanted);
}

}  // namespace

std::string ReadString(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsString()) FailType(call, name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.empty()) FailType(call, name, "a string that is not empty");
  // The kernel would stop reading there, and act on another name than the caller sees.
  if (text.find('\0') != std::string::npos) FailType(call, name, "a string without NUL");
  return text;
}

uint32_t ReadUint32(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsNumber()) FailType(call, name, "a number");
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= UINT32_MAX) || std::trunc(number) != number) {
    FailType(call, name, "an integer from 0 to 4294967295");
  }
  return static_cast<uint32_t>(number);
}

bool ReadBoolean(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsBoolean()) FailType(call, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

Bytes ReadBytes(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(call, name, "a Uint8Array");
  }
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  return Bytes{array.Data(), array.ByteLength()};
}

Bytes ReadBytes(const Call& call, Napi::Value value, const char* name, size_t size) {
  Bytes bytes = ReadBytes(call, value, name);
  if (bytes.size != size) {
    call.Fail(Code::kBadSize, std::string(name) + " must be " + std::to_string(size) +
                                  " bytes long, not " + std::to_string(bytes.size));
  }
  return bytes;
}

Napi::Object ReadObject(const Call& call, Napi::Value value, const char* name) {
  if (!value.IsObject()) FailType(call, name, "an object");
  return value.As<Napi::Object>();
}

Napi::Value Property(Napi::Object object, const char* name) { return object.Get(name); }

Napi::Uint8Array MakeBytes(Napi::Env env, const void* data, size_t size) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, size);
  if (size > 0) std::memcpy(array.Data(), data, size);
  return array;
}

}  // namespace pointsman
