/** The certificate and the key of a listener, checked before anything uses them. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

/** Throws where a file is missing, is no PEM, or the key is not the certificate's. Empty names: no TLS. */
export function checkTlsFiles({ tlsCertificate, tlsKey }: { tlsCertificate: string; tlsKey: string }): void {
  if (tlsCertificate === '' && tlsKey === '') return
  try {
    createSecureContext({ cert: readFileSync(tlsCertificate), key: readFileSync(tlsKey) })
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`TLS: ${tlsCertificate} and ${tlsKey} are no certificate and its key: ${why}`, { cause })
  }
}
