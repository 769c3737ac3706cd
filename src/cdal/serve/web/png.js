/**
 * PNG of one byte a pixel, read and written exactly.
 * The browser's own decoder passes through a canvas, which privacy settings may alter.
 */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10]
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1
  return n
})

/**
 * Read a PNG of 8-bit grey.
 * @returns {Promise<{width: number, height: number, values: Uint8Array}>}
 */
export async function decodeGrey(buffer) {
  const bytes = new Uint8Array(buffer)
  const view = new DataView(buffer)
  const width = view.getUint32(16)
  const height = view.getUint32(20)
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte) || bytes[24] !== 8 || bytes[25] || bytes[28]) {
    throw new Error('Expected a PNG of 8-bit grey from the server.')
  }
  const parts = []
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at)
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === 'IDAT') {
      parts.push(bytes.subarray(at + 8, at + 8 + length))
    }
    at += length + 12
  }
  const packed = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'))
  const rows = new Uint8Array(await new Response(packed).arrayBuffer())
  return { width, height, values: unfiltered(rows, width, height) }
}

/** Undo the filters of PNG's rows (PNG specification, chapter 9). */
function unfiltered(rows, width, height) {
  const values = new Uint8Array(width * height)
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)]
    const from = y * (width + 1) + 1
    const to = y * width
    for (let x = 0; x < width; x++) {
      const left = x ? values[to + x - 1] : 0
      const up = y ? values[to + x - width] : 0
      const corner = x && y ? values[to + x - width - 1] : 0
      const guess =
        filter === 0 ? 0
        : filter === 1 ? left
        : filter === 2 ? up
        : filter === 3 ? (left + up) >> 1
        : paeth(left, up, corner)
      values[to + x] = rows[from + x] + guess
    }
  }
  return values
}

function paeth(left, up, corner) {
  const a = Math.abs(up - corner)
  const b = Math.abs(left - corner)
  const c = Math.abs(left + up - 2 * corner)
  return a <= b && a <= c ? left : b <= c ? up : corner
}

/** Write a PNG of 8-bit grey. */
export async function encodeGrey(values, width, height) {
  const rows = new Uint8Array(height * (width + 1))
  for (let y = 0; y < height; y++) {
    rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1)
  }
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate'))
  const header = new DataView(new ArrayBuffer(13))
  header.setUint32(0, width)
  header.setUint32(4, height)
  header.setUint8(8, 8)
  const parts = [
    new Uint8Array(SIGNATURE),
    chunk('IHDR', new Uint8Array(header.buffer)),
    chunk('IDAT', new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk('IEND', new Uint8Array(0)),
  ]
  return new Blob(parts, { type: 'image/png' })
}

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, content.length)
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4)
  bytes.set(content, 8)
  let crc = ~0
  for (let i = 4; i < content.length + 8; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8)
  view.setUint32(content.length + 8, ~crc >>> 0)
  return bytes
}
