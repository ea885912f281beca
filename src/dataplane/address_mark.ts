// How an address that the proxy plane put on this host is told from an operator's: by its metric,
// which the kernel keeps and `ip address` shows, also after the process was killed. Both planes
// know the mark, so that one can take over from the other; this file knows neither.

import { xxh64 } from "../model/xxh64.ts";

/** The first byte of the metric, as 0x70 is the protocol of the XDP plane's addresses. */
const MARK = 0x70;

/** The metric of an instance's addresses: 32 bits, unsigned. */
export function addressMetric(instance: string): number {
  return MARK * 2 ** 24 + Number(xxh64(instance, 0) & 0xff_ffffn);
}

/** Whether a proxy plane, of whatever instance, put an address with this metric there. */
export function isProxyMetric(metric: number): boolean {
  return Math.floor(metric / 2 ** 24) === MARK;
}
