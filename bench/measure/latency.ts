/** Latencies in HDR histograms: microseconds with three significant digits, up to two minutes. */
import { build, decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js'
import Type, { type Static } from 'typebox'

const MICROS_MAX = 120_000_000

export function newHistogram(): Histogram {
  return build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: MICROS_MAX,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 64,
    useWebAssembly: false,
  })
}

export function record(histogram: Histogram, micros: number): void {
  histogram.recordValue(Math.min(Math.max(1, Math.round(micros)), MICROS_MAX))
}

export const packHistogram = (histogram: Histogram): string => encodeIntoCompressedBase64(histogram)

export function mergeHistograms(packed: readonly string[]): Histogram {
  const sum = newHistogram()
  for (const one of packed) sum.add(decodeFromCompressedBase64(one, 64, false))
  return sum
}

export const LatencyMs = Type.Object({
  p50: Type.Number(),
  p90: Type.Number(),
  p99: Type.Number(),
  p999: Type.Number(),
  max: Type.Number(),
  count: Type.Integer(),
})
export type LatencyMs = Static<typeof LatencyMs>

export function latencyMs(histogram: Histogram): LatencyMs {
  const at = (percentile: number) => ms(histogram.getValueAtPercentile(percentile))
  return {
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    max: ms(histogram.maxValue),
    count: histogram.totalCount,
  }
}

const ms = (micros: number) => Number((micros / 1000).toPrecision(4))
