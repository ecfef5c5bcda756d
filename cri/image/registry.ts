/** The distribution API. */
export interface RegistryOptions {
  readonly certsDir: string;
  readonly progressTimeoutMs?: number;
  readonly userAgent?: string;
}
export class Registry {
  constructor(_options: RegistryOptions) {}
  close(): void {}
}
