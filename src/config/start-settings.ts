import Type, { type Static } from 'typebox'

/** Settings of `borealis start` alone; the parts it starts have their own sections. */
export const StartSettings = Type.Object(
  {
    dataFolder: Type.String({
      default: '.borealis',
      minLength: 1,
      description: "Where everything is kept: NATS's store, the keyring, credentials, the sample device's state.",
    }),
    natsPort: Type.Integer({
      default: 4322,
      minimum: 0,
      maximum: 65535,
      description: 'Port of the nats-server that is started; 0: any free one. Unused where NATS_URL names a server.',
    }),
    device: Type.Boolean({ default: true, description: 'Start the sample device and show its pushes.' }),
  },
  { additionalProperties: false, default: {}, description: 'The one-machine service that `npm start` runs.' },
)
export type StartSettings = Static<typeof StartSettings>
