/** One layer as a ustar archive in memory; entries keep the order in which they are added, so the same calls give the same bytes. */

/** 2024-01-01T00:00:00Z, the date of every file and every image. */
const epochSeconds = 1_704_067_200;
const blockBytes = 512;

export interface Owner { readonly uid?: number; readonly gid?: number }

interface Header extends Owner {
  readonly name: string;
  readonly mode: number;
  readonly type: '0' | '1' | '2' | '5';
  readonly sizeBytes?: number;
  readonly target?: string;
}

export class Layer {
  readonly #blocks: Uint8Array[] = [];

  dir(name: string, mode = 0o755, owner: Owner = {}): this {
    return this.#add({ name: `${name}/`, mode, type: '5', ...owner });
  }

  file(name: string, content: string | Uint8Array, mode = 0o644, owner: Owner = {}): this {
    const data = typeof content === 'string' ? Buffer.from(content) : content;
    this.#add({ name, mode, type: '0', sizeBytes: data.length, ...owner });
    this.#blocks.push(data, Buffer.alloc((blockBytes - (data.length % blockBytes)) % blockBytes));
    return this;
  }

  hardlink(name: string, target: string): this {
    return this.#add({ name, mode: 0o755, type: '1', target });
  }

  symlink(name: string, target: string): this {
    return this.#add({ name, mode: 0o777, type: '2', target });
  }

  bytes(): Buffer {
    return Buffer.concat([...this.#blocks, Buffer.alloc(2 * blockBytes)]);
  }

  #add(header: Header): this {
    this.#blocks.push(encode(header));
    return this;
  }
}

/** POSIX.1-1988 ustar header. */
function encode(header: Header): Buffer {
  const { name, mode, uid = 0, gid = 0, sizeBytes = 0, type, target = '' } = header;
  if (Buffer.byteLength(name) > 100 || Buffer.byteLength(target) > 100) throw new Error(`${name}: names are limited to 100 bytes here`);
  const block = Buffer.alloc(blockBytes);
  const number = (value: number, at: number, width: number): void => { block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1'); };
  block.write(name, 0);
  number(mode, 100, 8);
  number(uid, 108, 8);
  number(gid, 116, 8);
  number(sizeBytes, 124, 12);
  number(epochSeconds, 136, 12);
  block.fill(' ', 148, 156);
  block.write(type, 156);
  block.write(target, 157);
  block.write('ustar\x0000', 257, 'latin1');
  block.write(`${block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
