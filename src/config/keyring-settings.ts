import Type, { type Static } from 'typebox'

/** Where the keys of the service are; keyring.ts says what is in there. */
export const KeyringSettings = Type.Object(
  {
    file: Type.String({
      default: '.borealis/keyring.json',
      minLength: 1,
      description: 'The keyring of a core, mode 0600; made where there is none.',
    }),
    transportFile: Type.String({
      default: '',
      description: 'What a transport needs of it (`borealis admin keyring extract`); empty: read from `keyring.file`.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The keys of the service.' },
)
export type KeyringSettings = Static<typeof KeyringSettings>
