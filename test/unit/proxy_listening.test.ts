// Where services listen, and what the operator is told when they cannot.

import { describe, expect, it } from "vitest";
import { bindFailure, listeningPlaces, listeningText, type ListeningPlace, type ProxyBinding } from "../../src/dataplane/proxy/listening.ts";
import { service } from "../support/proxy_world.ts";

const FOUR = service({ address: "203.0.113.10", port: 80 });
const SIX = service({ address: "2001:db8::10", port: 53, protocol: "udp" });

function place(binding: ProxyBinding, which = FOUR): ListeningPlace {
  const found = listeningPlaces(which, binding);
  if (typeof found === "string") throw new Error(found);
  expect(found).toHaveLength(1);
  return found[0]!;
}

describe("listeningPlace", () => {
  it.each([
    ["vip", "tcp 203.0.113.10:80", "udp [2001:db8::10]:53"],
    ["loopback", "tcp 127.0.0.1:80", "udp [::1]:53"],
    ["any", "tcp 0.0.0.0:80", "udp [::]:53"],
  ] as const)("%s", (bind, four, six) => {
    expect(place({ bind, portOffset: 0 }).key).toBe(four);
    expect(place({ bind, portOffset: 0 }, SIX)).toMatchObject({ key: six, family: 6 });
  });

  it("adds the offset, and refuses what is no port", () => {
    expect(place({ bind: "vip", portOffset: 8000 }).endpoint).toBe("203.0.113.10:8080");
    expect(listeningPlaces(FOUR, { bind: "vip", portOffset: 65_456 })).toContain("65536");
    expect(place({ bind: "vip", portOffset: 65_455 })).toMatchObject({ port: 65_535 });
    expect(listeningPlaces(FOUR, { bind: "vip", portOffset: -80 })).toContain("is 0");
  });

  it("has a socket for each port of a range, up to a bound, and none for a prefix", () => {
    const places = listeningPlaces(service({ port: "8000-8002" }), { bind: "any", portOffset: 10 });
    expect(places).toMatchObject([8000, 8001, 8002].map((port) =>
      ({ key: `tcp 0.0.0.0:${port + 10}`, virtual: { address: { text: "127.0.0.1" }, port } })));
    if (typeof places === "string") throw new Error(places);
    expect(listeningText(places)).toBe("0.0.0.0:8010-8012");
    expect(listeningText([places[2]!, places[0]!])).toBe("0.0.0.0:8010-8012 (2 ports)");
    expect(listeningText([places[1]!])).toBe("0.0.0.0:8011");
    const vip = { bind: "vip", portOffset: 0 } as const;
    expect(listeningPlaces(service({ port: "1-256" }), vip)).toHaveLength(256);
    expect(listeningPlaces(service({ port: "1-257" }), vip)).toMatch(/^1-257: .*256 ports/);
    expect(listeningPlaces(service({ port: "any" }), vip)).toMatch(/^any: /);
    expect(listeningPlaces(service({ address: "203.0.113.0/28" }), vip)).toMatch(/^203.0.113.0\/28: /);
  });
});

describe("bindFailure", () => {
  const vip: ProxyBinding = { bind: "vip", portOffset: 0 };
  const failed = (code: string, binding = vip): ReturnType<typeof bindFailure> =>
    bindFailure(place(binding), binding, Object.assign(new Error(`bind ${code}`), { code }));

  it.each([
    ["EADDRNOTAVAIL", "ADDRESS_NOT_LOCAL", "ip_nonlocal_bind"],
    ["EADDRINUSE", "PORT_IN_USE", "--port-offset"],
    ["EACCES", "PERMISSION_DENIED", "CAP_NET_BIND_SERVICE"],
    ["EWHATEVER", "SYSTEM", "cannot listen on tcp 203.0.113.10:80: EWHATEVER"],
  ])("%s is %s with a remedy, and keeps its cause", (errno, code, remedy) => {
    const failure = failed(errno);
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(remedy);
    expect((failure.cause as Error).message).toBe(`bind ${errno}`);
  });

  it("without IPv6 the loopback is not there either", () => {
    expect(failed("EADDRNOTAVAIL", { bind: "loopback", portOffset: 0 }).message).toContain("switched off");
  });
});
