/** The sample device of `borealis start`: `borealis device` with the sample application. */
import { Child } from './child.js'
import type { DataFolder } from './folder.js'
import type { Output } from './output.js'
import type { Sample } from './sample.js'

export interface SampleDeviceOptions {
  folder: DataFolder
  sample: Sample
  apiUrl: string
  transportUrl: string
  output: Output
  onLost(reason: string): void
}

/** The line that `borealis device` prints when an application is registered (device-output.ts). */
const registeredLine = /^registered \S+: (\S+)$/

/** Makes the child process. The device enrols at the first start and shows each push on this terminal. */
export function sampleDevice({ folder, sample, apiUrl, transportUrl, output, onLost }: SampleDeviceOptions): Child {
  const options = {
    '--application': sample.application,
    '--state': folder.file('sample-device.state'),
    '--enrol-url': apiUrl,
    '--url': transportUrl,
    '--name': 'sample device',
  }
  return new Child({
    name: 'device',
    args: ['device', ...Object.entries(options).flat()],
    environment: { BOREALIS_ENROLMENT_KEY: sample.enrolmentKey },
    readyIn: (line, stream) => {
      const registrationId = stream === 'stdout' ? registeredLine.exec(line)?.[1] : undefined
      return registrationId === undefined ? null : { registrationId }
    },
    onLine: (line, stream) => {
      if (stream === 'stdout') output.device(line)
      else output.part('device', line)
    },
    onNotice: output.notice,
    onLost,
  })
}
