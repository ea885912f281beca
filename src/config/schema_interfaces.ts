// The part of the schema that says where packets arrive: interfaces, and link addresses. Knows keys,
// bounds and descriptions; must never know what this host has.

import * as z from "zod";
import * as formats from "./formats.ts";
import { text } from "./schema_parts.ts";

export const interfacesSchema = z.array(text(formats.checkInterface, {
  title: "the name of an interface", pattern: formats.INTERFACE_PATTERN, examples: ["eth0"],
})).default([]).meta({ title: "a list of interfaces", description: "Where XDP attaches: "
  + "all interfaces that packets for services arrive on. A bond stands for its ports, as they come and go." });

export const macsSchema = z.array(text(formats.checkMac, {
  title: "a MAC address", pattern: formats.MAC_PATTERN, examples: ["00:00:5e:00:01:0a"],
})).max(16).default([]).meta({ title: "a list of MAC addresses", description: "Destinations of frames for "
  + "this host, beside the addresses of its interfaces: of a virtual router (VRRP) that has no macvlan "
  + "interface here, say. Frames to anybody else pass untouched." });
