// Whose program an interface runs, by made-up pins and links.

import { describe, expect, it } from "vitest";
import { heldBy, holderOf, isAdoptable, type ProgramHolder } from "../../src/dataplane/xdp/program_holder.ts";
import type { Native, XdpLinkInfo } from "../../src/dataplane/xdp/native.ts";
import type { Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const ETH0 = { name: "eth0", ifindex: 2, xdp: { mode: "native", programId: 71 } } as Link;

/** Who holds the interface, as the instance `main` sees it; null in place of a link: it may not be asked. */
function holder(links: Readonly<Record<string, XdpLinkInfo | null>>, of: Link = ETH0): ProgramHolder | null {
  const env = createFakeEnv();
  const root = "/sys/fs/bpf/pointsman";
  for (const path of Object.keys(links)) env.files.writeAtomic(`${root}/${path}`, "", 0o600);
  const native = { XdpLink: { open: (path: string) => {
    const info = links[path.slice(root.length + 1)];
    if (info === null || info === undefined) throw new Error("not permitted");
    return { info: () => info, close: () => undefined };
  } } } as unknown as Native;
  return holderOf(native, env, "main", of);
}

const HERE: XdpLinkInfo = { id: 5, ifindex: 2, programId: 71 };

describe("the program of an interface is", () => {
  it("our own where our link leads to it, and then it is adopted", () => {
    const own = holder({ "main/link-eth0": HERE, "main/link-eth1": { ...HERE, ifindex: 3 } });
    expect(own).toEqual({ instance: "main", pinnedFor: "eth0" });
    expect(isAdoptable(own, "main", ETH0)).toBe(true);
    // Also when its owner died while another version took over.
    expect(holder({ "main+1/link-eth0": HERE, "main+1/link-eth0+new": HERE })).toEqual(own);
  });

  it("our own under another name, which is not adopted", () => {
    const renamed = holder({ "main/link-wan": HERE });
    expect(renamed).toEqual({ instance: "main", pinnedFor: "wan" });
    expect(isAdoptable(renamed, "main", ETH0)).toBe(false);
    expect(heldBy(renamed!, "main", "eth0").remedy).toBe("call it wan again, or pointsman detach --instance main");
  });

  it("another instance's, whatever its name has in it", () => {
    const other = holder({ "main/link-eth0": { ...HERE, ifindex: 0 }, "edge%2eb+2/link-eth0": HERE });
    expect(other).toEqual({ instance: "edge.b", pinnedFor: "eth0" });
    expect(isAdoptable(other, "main", ETH0)).toBe(false);
    expect(heldBy(other!, "main", "eth0").found).toBe("the program of the instance edge.b");
  });

  it("a stranger's where no link leads to it: in another namespace there is an interface of the same name and number", () => {
    expect(holder({ "b/link-eth0": { ...HERE, programId: 70 }, "c/link-eth0": { ...HERE, ifindex: 3 } })).toBeNull();
    expect(holder({})).toBeNull();
  });

  it("our own by its name where links may not be asked; nobody else's", () => {
    expect(holder({ "main/link-eth0": null })).toEqual({ instance: "main", pinnedFor: "eth0" });
    expect(holder({ "b/link-eth0": null, "main/link-eth1": null })).toBeNull();
  });

  it("nobody's where it has none", () => {
    expect(holder({ "main/link-eth0": { ...HERE, programId: 0 } }, { ...ETH0, xdp: { mode: "none", programId: 0 } })).toBeNull();
  });
});
