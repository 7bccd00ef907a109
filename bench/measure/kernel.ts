/** Memory that the kernel of this machine uses for sockets. Compare two readings, while nothing else runs. */
import { readFileSync } from 'node:fs'

export interface KernelMemory {
  /** Unreclaimable slab, plus the inodes of sockets, which cannot be reclaimed either. */
  slabBytes: number
  /** Pages in socket buffers (`mem` of /proc/net/sockstat). */
  socketBufferBytes: number
  /** Page tables and kernel stacks of all processes. */
  processBytes: number
  tcpSockets: number
  /** Memory in use on the machine: MemTotal - MemAvailable. */
  usedBytes: number
  /** MemAvailable without the inodes of sockets. */
  availableBytes: number
}

const PAGE_BYTES = 4096
/**
 * sock_inode_cache, its dentry and their security blobs. The kernel counts them as reclaimable and so as available, but
 * they cannot be reclaimed while the socket is open. At a million connections the error would be 2 GiB.
 */
const SOCKET_INODE_BYTES = 832 + 192 + 32

export function kernelMemory(): KernelMemory {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const sockstat = readFileSync('/proc/net/sockstat', 'utf8')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? Number.NaN)
  const tcp = /^TCP: inuse (\d+) .* mem (\d+)/m.exec(sockstat)
  const inodeBytes = Number(/^sockets: used (\d+)/m.exec(sockstat)?.[1] ?? 0) * SOCKET_INODE_BYTES
  const availableBytes = kib('MemAvailable') * 1024 - inodeBytes
  return {
    slabBytes: kib('SUnreclaim') * 1024 + inodeBytes,
    socketBufferBytes: Number(tcp?.[2] ?? 0) * PAGE_BYTES,
    processBytes: (kib('PageTables') + kib('KernelStack')) * 1024,
    tcpSockets: Number(tcp?.[1] ?? 0),
    usedBytes: kib('MemTotal') * 1024 - availableBytes,
    availableBytes,
  }
}

/** Kernel memory for each of `count` sockets that were opened between two readings. */
export function kernelBytesEach(before: KernelMemory, after: KernelMemory, count: number): number {
  const slab = after.slabBytes - before.slabBytes
  const buffers = after.socketBufferBytes - before.socketBufferBytes
  return (slab + buffers) / count
}
