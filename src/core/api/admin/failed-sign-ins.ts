/**
 * Sign-ins to the admin API that failed. One entry of AUDIT sums up a minute, so that a flood of guesses fills no log.
 */
import { SIGN_INS_AUDIT_SUBJECT } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'
import type { AuditLog } from '../../../store/audit.js'

const SUM_MS = 60_000
/** Networks that an entry names; it counts the failures of further ones too. */
const NETWORKS_MAX = 20

export class FailedSignIns {
  private count = 0
  private readonly networks = new Map<string, number>()
  private cancelTimer: (() => void) | null = null

  constructor(
    private readonly audit: Pick<AuditLog, 'append'>,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  /** @param network as rate limits count it: an IPv4 address, or the /64 of an IPv6 address. */
  add(network: string): void {
    this.count++
    const known = this.networks.get(network)
    if (known !== undefined || this.networks.size < NETWORKS_MAX) this.networks.set(network, (known ?? 0) + 1)
    this.cancelTimer ??= this.clock.after(SUM_MS, () => void this.write())
  }

  /** Writes the failures since the last entry. */
  async stop(): Promise<void> {
    this.cancelTimer?.()
    await this.write()
  }

  private async write(): Promise<void> {
    this.cancelTimer = null
    if (this.count === 0) return
    const details = { count: this.count, networks: Object.fromEntries(this.networks) }
    this.count = 0
    this.networks.clear()
    this.log.warn(details, 'sign-ins to the admin API failed')
    const entry = { atMs: this.clock.now(), actor: 'core', action: 'sign_in.failed', project: null, details }
    try {
      await this.audit.append(entry, SIGN_INS_AUDIT_SUBJECT)
    } catch (error) {
      this.log.warn({ error }, 'failed sign-ins are not in the audit log')
    }
  }
}
