/** One instance with very many devices: they stay connected for minutes, then the instance goes through operations. */
import Type, { type Static } from 'typebox'
import { Result } from '../hold/result.js'
import { HoldRun } from '../hold/run.js'
import { type Bench, defineScenario } from '../scenario.js'
import { connections, generators } from './options.js'

const Options = Type.Object({
  connections: connections(30_000),
  minutes: Type.Number({
    default: 10,
    minimum: 0.02,
    maximum: 1_440,
    description: 'minutes without any traffic but keepalives',
  }),
  keepaliveSeconds: Type.Integer({
    default: 300,
    minimum: 5,
    maximum: 3_600,
    description: 'seconds between two keepalives of a device',
  }),
  pushes: Type.Integer({
    default: 10_000,
    minimum: 1,
    maximum: 10_000_000,
    description: 'number of pushes to random devices',
  }),
  pushRate: Type.Integer({ default: 500, minimum: 1, maximum: 100_000, description: 'rate of these pushes, a second' }),
  flowRate: Type.Integer({
    default: 200,
    minimum: 1,
    maximum: 100_000,
    description: 'pushes a second while a worker is killed and while all workers are restarted',
  }),
  rampPerSecond: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 1_000_000,
    description: 'devices that connect in a second; 0: as many as the service accepts',
  }),
  workers: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 128,
    description: "number of transport workers; 0: by the supervisor's own rule for this number of devices",
  }),
  generators,
})
type Options = Static<typeof Options>

export const hold = defineScenario({
  name: 'hold',
  summary:
    'one whole service with many devices: ramp, hold, pushes, a broadcast, a killed worker, a rolling restart; memory of each part',
  options: Options,
  result: Result,
  run: (bench: Bench, options: Options) => new HoldRun(bench, options).run(),
  failed: ({ failure }) => failure,
  show: ({ stages: _stages, estimates, pushes, broadcast, kill, rollingRestart, closes: _closes, ...result }) => [
    ...Object.entries(result).flatMap(([field, value]) => rows(field, value)),
    ...Object.entries({ pushes, broadcast, kill, rollingRestart }).flatMap(([field, value]) => rows(field, value)),
    ...estimates.map(({ connections, totalBytes, fits }) => ({
      field: `estimated for ${connections.toLocaleString('en')}`,
      value: `${(totalBytes / 2 ** 30).toFixed(1)} GiB, ${fits ? 'fits' : 'does not fit'} this machine`,
    })),
  ],
})

function rows(field: string, value: unknown): { field: string; value: string | number }[] {
  if (value === null) return [{ field, value: 'not reached' }]
  if (typeof value === 'object') {
    return Object.entries(value as object).flatMap(([name, inner]) => rows(`${field}.${name}`, inner))
  }
  return [{ field, value: typeof value === 'number' ? value : String(value) }]
}
