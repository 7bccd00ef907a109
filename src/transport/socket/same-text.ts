/** Texts of which many are equal, such as the address of a NAT or a load balancer: each kept once, and not with every socket. */

const KEPT_MAX = 4_096

export class SameTexts {
  private readonly kept = new Map<string, string>()

  /** An equal text, mostly one that others have already. */
  of(text: string): string {
    const known = this.kept.get(text)
    if (known !== undefined) return known
    if (this.kept.size >= KEPT_MAX) this.kept.clear()
    this.kept.set(text, text)
    return text
  }
}
