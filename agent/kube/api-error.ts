/** Refusals of the API server: HTTP status and `kind: Status` body as one Fault. */
import { Fault } from '#host/fault.ts';
import type { FaultKind } from '#host/fault.ts';
import type { Status } from './types.ts';

export class ApiError extends Fault {
  /** HTTP status. */
  readonly status: number;
  /** The API's own word: `NotFound`, `Conflict`, `AlreadyExists`, `Expired`, `Invalid`, …; empty when the answer carried none. */
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;
  constructor(status: number, reason: string, message: string, retryAfterSeconds?: number) {
    super(kindOf(status, reason), message);
    this.name = 'ApiError';
    this.status = status;
    this.reason = reason;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export const isApiError = (error: unknown, ...reasons: string[]): error is ApiError =>
  error instanceof ApiError && (reasons.length === 0 || reasons.includes(error.reason));

/** The object is not there (or no longer): the one error that most callers treat as an answer. */
export const isNotFound = (error: unknown): error is ApiError => error instanceof ApiError && error.status === 404;

/** Somebody else wrote the object in between; read it again and try anew. */
export const isConflict = (error: unknown): error is ApiError => error instanceof ApiError && error.status === 409 && error.reason !== 'AlreadyExists';

/** The resourceVersion is too old: list again. */
export const isExpired = (error: unknown): error is ApiError =>
  error instanceof ApiError && (error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone');

function kindOf(status: number, reason: string): FaultKind {
  if (reason === 'AlreadyExists') return 'already-exists';
  switch (status) {
    case 400: case 405: case 413: case 415: case 422: return 'invalid';
    case 401: return 'unauthorized';
    case 403: return 'forbidden';
    case 404: return 'not-found';
    case 409: case 410: return 'precondition';
    case 429: return 'exhausted';
    case 502: case 503: return 'unavailable';
    case 504: return 'timeout';
    default: return 'internal';
  }
}

/** The error for an answer of `httpStatus` whose body is `body`: a Status, or whatever a proxy on the way wrote. */
export function apiError(httpStatus: number, body: string, what: string): ApiError {
  const status = parseStatus(body);
  if (status !== undefined) {
    return new ApiError(status.code ?? httpStatus, status.reason ?? '', `${what}: ${status.message ?? `HTTP ${httpStatus}`}`, status.details?.retryAfterSeconds);
  }
  const text = body.trim().slice(0, 300);
  return new ApiError(httpStatus, '', `${what}: HTTP ${httpStatus}${text === '' ? '' : `: ${text}`}`);
}

function parseStatus(body: string): Status | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'Status' ? (value as Status) : undefined;
  } catch {
    return undefined; // not JSON: the caller shows the text
  }
}
