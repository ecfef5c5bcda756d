/** Makes tars for tests, good and bad ones: what an honest writer would never write too. */

export interface TarItem {
  readonly name: string;
  /** The flag byte: '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo; or any other. Default '0'. */
  readonly flag?: string;
  readonly content?: string | Uint8Array;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly link?: string;
  readonly major?: number;
  readonly minor?: number;
  /** Records of a pax header written before it. */
  readonly pax?: Readonly<Record<string, string | Uint8Array>>;
  /** Size field, if it is to be another than the content's. */
  readonly size?: number;
  readonly magic?: string;
}

const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, '0')}\0`;

/** One header block with a right checksum. */
export function tarHeader(item: TarItem): Buffer {
  const block = Buffer.alloc(512);
  const content = Buffer.from(item.content ?? '');
  block.write(item.name, 0, 100, 'utf8');
  block.write(octal(item.mode ?? 0o644, 8), 100);
  block.write(octal(item.uid ?? 0, 8), 108);
  block.write(octal(item.gid ?? 0, 8), 116);
  block.write(octal(item.size ?? content.length, 12), 124);
  block.write(octal(item.mtime ?? 1_700_000_000, 12), 136);
  block.write(item.flag ?? '0', 156, 1, 'latin1');
  block.write(item.link ?? '', 157, 100, 'utf8');
  block.write(item.magic ?? 'ustar\x0000', 257, 'latin1');
  block.write(octal(item.major ?? 0, 8), 329);
  block.write(octal(item.minor ?? 0, 8), 337);
  return withChecksum(block);
}

export function withChecksum(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

export const padded = (content: Uint8Array): Buffer => Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);

export function paxData(records: Readonly<Record<string, string | Uint8Array>>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
      let length = rest.length + 1;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

export function tarItem(item: TarItem): Buffer {
  const content = Buffer.from(item.content ?? '');
  const pax = item.pax === undefined ? [] : [tarItem({ name: 'pax', flag: 'x', content: paxData(item.pax) })];
  return Buffer.concat([...pax, tarHeader(item), padded(content)]);
}

/** A whole archive with its end mark. */
export const makeTar = (items: readonly TarItem[]): Buffer => Buffer.concat([...items.map(tarItem), Buffer.alloc(1024)]);
