// `status` and `detach` when there is no supervisor: what the pinned data plane alone can tell, and how
// it is taken down.

import { isFailure } from "../errors.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { duration } from "./table.ts";

/** The planes' code, of which nobody has need who finds a supervisor. */
const unsupervised = () => import("../dataplane/unsupervised.ts");

/** Runs `status`; without a supervisor, says what a live data plane does meanwhile, and fails. */
export async function statusVerb(io: Io, instance: string, supervised: () => Promise<void>): Promise<number> {
  try {
    await supervised();
    return EXIT.done;
  } catch (error) {
    if (!isFailure(error, "INSTANCE_NOT_RUNNING")) throw error;
    const { inspectInstance } = await unsupervised();
    const left = inspectInstance(instance, io.env);
    if (left === null) throw error;
    const since = left.heartbeatAgeMs === null ? "" : ` since ${duration(left.heartbeatAgeMs)}`;
    io.out(`${instance}: forwarding on ${left.interfaces.join(", ") || "no interface"}, unsupervised${since}, health frozen: `
      + `${left.services} service(s)\n`
      + `start the supervisor again with pointsman run, or stop forwarding with pointsman detach --instance ${instance}\n`);
    return EXIT.failure;
  }
}

/** Through the supervisor when there is one, else by the pins. */
export async function detachVerb(io: Io, instance: string, socketPath: string): Promise<number> {
  const client = io.connect(socketPath, instance);
  try {
    await client.detach(io.actor);
    io.out(`${instance}: detached\n`);
  } catch (error) {
    if (!isFailure(error, "INSTANCE_NOT_RUNNING")) throw error;
    const { detachInstance } = await unsupervised();
    const removed = await detachInstance(instance, io.env);
    io.out(removed ? `${instance}: detached; nobody was supervising it\n` : `${instance}: there was nothing to detach\n`);
  } finally {
    await client.close();
  }
  return EXIT.done;
}
