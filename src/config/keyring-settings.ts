import Type, { type Static } from 'typebox'

/** Where the keys of the service are stored. src/keyring.ts describes the content. */
export const KeyringSettings = Type.Object(
  {
    file: Type.String({
      default: '.borealis/keyring.json',
      minLength: 1,
      description:
        'The keyring of the installation, mode 0600: `borealis keyring init` makes it, and each core gets a copy.',
    }),
    transportFile: Type.String({
      default: '',
      description:
        'The file that a transport reads instead of the keyring (`borealis keyring extract`). Empty: `keyring.file`.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The keys of the service.' },
)
export type KeyringSettings = Static<typeof KeyringSettings>
