/** Settings of `borealis start`. The parts that it starts have their own sections. */
import Type, { type Static } from 'typebox'
export const StartSettings = Type.Object(
  {
    dataFolder: Type.String({
      default: '.borealis',
      minLength: 1,
      description: 'Folder for all data: the store of NATS, the keyring, credentials, the state of the sample device.',
    }),
    natsPort: Type.Integer({
      default: 4322,
      minimum: 0,
      maximum: 65535,
      description:
        'Port of the nats-server that `npm start` starts; 0: any free one. Unused if NATS_URL names a server.',
    }),
    device: Type.Boolean({ default: true, description: 'Whether the sample device is started. It prints its pushes.' }),
  },
  { additionalProperties: false, default: {}, description: 'The service on one machine, as `npm start` runs it.' },
)
export type StartSettings = Static<typeof StartSettings>
