// The addresses of this host in a map of the kernel's that refuses some: what is in it then, what is told, and
// what is tried again.

import { beforeEach, describe, expect, it } from "vitest";
import { OwnAddresses } from "../../src/dataplane/xdp/own_addresses.ts";
import { encodeAddressPrefix } from "../../src/dataplane/xdp/map_values.ts";
import type { Address } from "../../src/model/address.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import { address } from "../support/configs.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const [ONE, TWO, THREE] = ["10.0.0.1", "10.0.0.2", "fd10::3"].map(address) as [Address, Address, Address];
const keyOf = (of: Address): string => Buffer.from(encodeAddressPrefix(fixedSource(of))).toString("hex");

describe("the addresses of this host", () => {
  let env: ReturnType<typeof createFakeEnv>;
  let own: readonly Address[] | Error;
  const held = new Set<string>();
  const refused = new Set<string>();
  let addresses: OwnAddresses;
  const refuse = (key: Uint8Array): string => {
    const text = Buffer.from(key).toString("hex");
    if (refused.has(text)) throw new Error("no room");
    return text;
  };
  const hold = (...wanted: Address[]): void => { expect([...held].sort()).toEqual(wanted.map(keyOf).sort()); };

  beforeEach(() => {
    env = createFakeEnv();
    own = [address("127.0.0.1"), ONE, TWO];
    held.clear();
    refused.clear();
    addresses = new OwnAddresses({
      read: () => {
        if (own instanceof Error) throw own;
        return own;
      },
      map: {
        update: (key) => { held.add(refuse(key)); },
        delete: (key) => held.delete(refuse(key)),
      },
      env,
    });
  });

  it("are there from the start but for loopback ones, and follow", () => {
    addresses.begin();
    hold(ONE, TWO);
    own = [TWO, THREE];
    addresses.follow();
    hold(TWO, THREE);
  });

  it("leave nothing in the map when one is refused at the start", () => {
    refused.add(keyOf(TWO));
    expect(() => { addresses.begin(); }).toThrow("no room");
    hold();
  });

  it("are right but for the one that is refused, which is tried again until it is taken", () => {
    addresses.begin();
    refused.add(keyOf(THREE));
    own = [TWO, THREE];
    addresses.follow();
    hold(TWO);
    env.advanceSync(3_500);
    hold(TWO);
    refused.clear();
    env.advanceSync(1_000);
    hold(TWO, THREE);
    // What went while it was being tried is no more in the map: nothing was taken for written that was not.
    own = [];
    addresses.follow();
    hold();
  });

  it("stay known when the kernel will not remove one", () => {
    addresses.begin();
    refused.add(keyOf(ONE));
    own = [TWO];
    addresses.follow();
    hold(ONE, TWO);
    refused.clear();
    env.advanceSync(1_000);
    hold(TWO);
  });

  it("stay as they are while they cannot be read", () => {
    addresses.begin();
    own = new Error("ENOMEM");
    addresses.follow();
    hold(ONE, TWO);
    own = [THREE];
    env.advanceSync(1_000);
    hold(THREE);
  });

  it("are left alone once stopped", () => {
    addresses.begin();
    refused.add(keyOf(THREE));
    own = [THREE];
    addresses.follow();
    addresses.stop();
    refused.clear();
    env.advanceSync(10_000);
    hold();
  });
});
