// The functions of the addon that belong to no class.

#pragma once

#include <napi.h>

namespace pointsman {

Napi::Value GracePeriod(const Napi::CallbackInfo& info);
Napi::Value PossibleCpus(const Napi::CallbackInfo& info);
void EnterNetworkNamespace(const Napi::CallbackInfo& info);
void MountBpffs(const Napi::CallbackInfo& info);
Napi::Value InterfaceIndex(const Napi::CallbackInfo& info);
Napi::Value OpenMarkedSocket(const Napi::CallbackInfo& info);
Napi::Value SendPackets(const Napi::CallbackInfo& info);

}  // namespace pointsman
