/**
 * Who may do what. A role is held for some projects, or for the whole service (`*`); an action asks for a role at least,
 * and some ask for the whole service.
 */
import { CodedError } from '../../../../protocol/errors.js'

/** From least to most. */
export const ROLES = ['viewer', 'developer', 'operator'] as const
export type Role = (typeof ROLES)[number]

interface Rule {
  least: Role
  /** `service`: only with `*`. */
  of: 'project' | 'service'
  /** Changes something: stands in AUDIT. */
  audited: boolean
}

const sees = (least: Role, of: Rule['of'] = 'project'): Rule => ({ least, of, audited: false })
const changes = (least: Role, of: Rule['of'] = 'project'): Rule => ({ least, of, audited: true })

/** Every action of administration. docs/operate/admin.md has the same table (a test compares them). */
export const Actions = {
  'project.show': sees('viewer'),
  'application.list': sees('viewer'),
  'registration.list': sees('viewer'),
  'counters.show': sees('viewer'),
  'audit.show': sees('viewer'),
  'events.show': sees('viewer'),
  'events.on': changes('developer'),
  'events.off': changes('developer'),
  'webhook.set': changes('developer'),
  'webhook.rotate': changes('developer'),
  'webhook.retry': changes('developer'),
  'webhook.remove': changes('developer'),
  'application.create': changes('developer'),
  'key.add': changes('developer'),
  'key.remove': changes('developer'),
  'registration.revoke': changes('developer'),
  'token.mint': changes('developer'),
  'project.suspend': changes('operator'),
  'project.resume': changes('operator'),
  'project.limit': changes('operator'),
  'project.create': changes('operator', 'service'),
  'fleet.list': sees('operator', 'service'),
  'fleet.create': changes('operator', 'service'),
  'fleet.keys.list': sees('operator', 'service'),
  'fleet.keys.add': changes('operator', 'service'),
  'fleet.keys.retire': changes('operator', 'service'),
  'fleet.cutoff': changes('operator', 'service'),
  'device.revoke': changes('operator', 'service'),
  'device.reset': changes('operator', 'service'),
  'credential.list': sees('operator', 'service'),
  'credential.create': changes('operator', 'service'),
  'credential.remove': changes('operator', 'service'),
  'keyring.add': changes('operator', 'service'),
  'keyring.activate': changes('operator', 'service'),
  'keyring.retire': changes('operator', 'service'),
  'keyring.adopt': changes('operator', 'service'),
} as const satisfies Record<string, Rule>
export type Action = keyof typeof Actions

/** Who acts, as what. */
export interface Actor {
  /** As AUDIT names it. */
  name: string
  role: Role
  /** `*`: all there are and will be. */
  projects: '*' | readonly string[]
}

/** `project` null: an action that is about none, or about all. */
export function mayDo(actor: Actor, action: Action, project: string | null): boolean {
  const rule: Rule = Actions[action]
  if (ROLES.indexOf(actor.role) < ROLES.indexOf(rule.least)) return false
  if (actor.projects === '*') return true
  return rule.of === 'project' && project !== null && actor.projects.includes(project)
}

/** Throws CodedError `forbidden`. */
export function requireMay(actor: Actor, action: Action, project: string | null): void {
  if (!mayDo(actor, action, project)) {
    throw new CodedError('forbidden', `this credential does not allow ${action}`, { action })
  }
}
