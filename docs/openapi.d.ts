// Written by `python -m scripts.openapi` from docs/openapi.json.

/** What a word is called in the language, in one or several ways; without `captions`, it has no word for it. */
export interface Answer {
  english: string;
  captions: Array<string>;
  /** Keep the captions beside what the same key answered before, not in its place. */
  more?: boolean;
}

/** How much is kept of a language. */
export interface AnswerCounts {
  /** Captions in all answers. */
  answered: number;
  /** With so many it can be taught. */
  needed: number;
}

export interface Answers {
  words: Array<Answer>;
}

/** A word to ask a speaker for; or a `word` of searches that nobody taught, to ask what it is in English. */
export interface AskedWord {
  /** Empty where a `word` is asked about. */
  english: string;
  /** A word of searches in the language that was not understood. */
  word?: string | null;
  /** Ids of at most three pictures that show it, the nearest first. */
  pictures: Array<string>;
  /** In how many searches the `word` was. */
  asked_for?: number;
}

export interface AskedWords {
  /** Captions in all answers. */
  answered: number;
  /** With so many it can be taught. */
  needed: number;
  items: Array<AskedWord>;
  /** Share of the pictures that have a word already; null where there are none. */
  covered: number | null;
}

/** How well the base reads a language untaught, as it was measured last. */
export interface Assessment {
  expansion: string;
  at: string;
  /** Whether well enough that a taught version would be served. */
  reads: boolean;
  sentence: string;
  t2i: Recall;
  i2t: Recall;
  pairs: number;
}

/**
 * An act: `targets` are ids, each with what became of it; `act` is the method and route, or what a worker did.
 *
 * `actor` is the id of a key, or the person: `oidc:SUBJECT` who signed in, `proxy:USER` whom a proxy named.
 */
export interface AuditItem {
  number: number;
  at: string;
  actor: string;
  /** What the key or the person was called then. */
  label: string;
  act: string;
  targets: Record<string, string>;
  request_id: string;
}

export interface AuditPage {
  items: Array<AuditItem>;
  next_cursor: string | null;
}

/** A backup that was taken of this data root; `missing` are files that the registry names and nobody had. */
export interface BackupNote {
  folder: string;
  time: string;
  bytes: number;
  missing: number;
}

export interface BaseMove {
  /** As in `PICTOGLOT_BASE`; null: the one that serves. */
  base?: string | null;
  /** What computes the vectors; null: what computes them now. */
  backend?: "auto" | "torch" | "openvino" | null;
  /** null: that of now. */
  precision?: "auto" | "float32" | "bfloat16" | "int8" | null;
  /** Move even if a language would lose more than the forgetting budget. */
  force?: boolean;
  dry_run?: boolean;
}

/** `move` is the newest move; `undo` what the way back would do now, if there is one. */
export interface BaseStatus {
  base: string;
  /** What makes the vectors of the release. */
  encoding: string;
  version: number;
  release: number;
  open: OpenBase;
  move: ExpansionItem | null;
  undo: BaseUndoResult | null;
}

export interface BaseUndo {
  reason?: string;
  /** The release you have seen; 409 if another serves. */
  expected?: number | null;
  dry_run?: boolean;
}

/** The way back to the base before; `lost` are served now and not there, `changed` by another version there. */
export interface BaseUndoResult {
  /** The new release; with `dry_run` the one that serves. */
  release: number;
  restored: number;
  from_base: string;
  to_base: string;
  /** What has computed the vectors there. */
  encoding: string | null;
  lost: Array<string>;
  returned: Array<string>;
  changed: Array<string>;
  dry_run: boolean;
}

/** Fields sent with up to 256 files `picture`, of which the n-th belongs to the n-th record. */
export interface BatchForm {
  picture: Array<Blob>;
  /**
   * JSON. A list of objects, each with any of `id`, `captions`, `collection`, `tags`, `metadata`, as with
   * `PUT`; without `id` as with `POST`. If left out, all are as with `POST`, and nothing is said of them.
   */
  records?: string;
}

/** Who sends a request: all is null where nobody is known, and `refused` is why, an error's code. */
export interface CallerStatus {
  by?: "key" | "proxy" | "session" | "open" | null;
  /** As `actor` in the audit log. */
  id?: string | null;
  label?: string;
  scope?: "search" | "write" | "admin" | null;
  /** What the sender is bound to; null for everything. */
  collections?: Array<string> | null;
  refused?: string | null;
  /** Where a person signs in; null where nobody can. */
  sign_in?: string | null;
}

export interface CaptionHit {
  caption: string;
  language: string;
  score: number;
  rank: number;
  picture: string;
}

export interface CaptionHits {
  items: Array<CaptionHit>;
  release: number;
  generations: Record<string, string>;
  warnings: Array<string>;
  /** Of the languages of the hits that have any. */
  terms: Record<string, TermsInBrief>;
  timing_ms: number;
}

/** What a person calls a picture; the same text as another person's is agreement. */
export interface CaptionProposal {
  picture: string;
  text: string;
  name?: string;
}

/** Captions for a picture in the gallery, or with a form for an uploaded one: fields as in a search there. */
export interface CaptionSearch {
  picture: string;
  languages?: Array<string> | null;
  limit?: number;
  /**
   * Only captions of pictures that it leaves. As Qdrant's: `must`, `should`, `must_not` of conditions with
   * `key` and `match` or `range`.
   */
  filter?: Record<string, unknown>;
}

/** AA and F of the shared table after one version; null where its report does not contain them. */
export interface ChainStep {
  version: number;
  language: string;
  AA: number | null;
  F: number | null;
}

export interface ChangeOutcome {
  id: string;
  outcome: "changed" | "kept" | "missing";
}

/** What became of each picture. */
export interface ChangeOutcomes {
  items: Array<ChangeOutcome>;
  changed: number;
}

export interface CollectionItem {
  name: string;
  count: number;
}

export interface Collections {
  items: Array<CollectionItem>;
}

/** A dataset that a language was taught from, by the expansion that it came with. */
export interface DatasetItem {
  expansion: string;
  created_at: string;
  /** Those that were sent with it, as `POST /v1/languages` takes them. */
  settings: Record<string, unknown>;
  /** Of a dictionary, the language of its glosses; null of captions. */
  pivot: string | null;
  sha256: string | null;
  bytes: number | null;
  /** false: it was pruned. */
  kept: boolean;
  /** It is a language file, for `POST /v1/languages/import`. */
  imported: boolean;
  /** Those of the language when it was sent. */
  terms: LanguageTerms | null;
}

export interface Datasets {
  items: Array<DatasetItem>;
}

/** What may be wrong with a dataset. */
export interface Doubt {
  code: "columns_swapped" | "other_language" | "pairs_unrelated";
  detail: string;
  /** The first five for which it is so. */
  rows: Array<ShownRow>;
  /** The language that texts should be in, where they seem not to be. */
  expected?: string | null;
  /** The one that they seem to be in; null: none that is known. */
  found?: string | null;
}

/** What a dataset holds, of which nothing is taught now: it was a dry run, or there are too few rows. */
export interface DryRun {
  dry_run?: boolean;
  language: string;
  /** Set where there are too few rows to teach the language. Unless this was a dry run they are kept. */
  waiting: WaitingCounts | null;
  report: Record<string, unknown>;
  /** With any, it is taught only if it is sent with `confirmed=true`. */
  doubts: Array<Doubt>;
  /** The first five rows of what was sent. */
  sample: Array<ShownRow>;
  /** What would be taught again; null: this dataset would be taught alone. */
  joined: EarlierDatasets | null;
  /** With `replace`: whose place the dataset would take. */
  replaced: EarlierDatasets | null;
}

export interface DuplicateGroup {
  pictures: Array<NearPicture>;
  /** Whether more than 100 pictures are near the first one, of which these are nearest. */
  more: boolean;
}

export interface Duplicates {
  items: Array<DuplicateGroup>;
  /** How many pictures were looked at for this page. */
  examined: number;
  release: number;
  generation: string;
  next_cursor: string | null;
  timing_ms: number;
}

/** What a language was taught from before: taught again beside a new dataset, or replaced by it. */
export interface EarlierDatasets {
  datasets: number;
  /** Total rows, counting duplicates across datasets. */
  rows: number;
}

export interface Embedding {
  object?: "embedding";
  index: number;
  embedding: Array<number> | string;
}

export interface Embeddings {
  object?: "list";
  data: Array<Embedding>;
  /** By which each input was read: a tag, or `shared`; null: a picture. */
  languages: Array<string | null>;
  model: string;
  usage: Usage;
}

/** OpenAI's format; `model` and `user` are accepted and have no effect. */
export interface EmbeddingsRequest {
  /** Texts; one that begins with `data:image/` is a picture as a data URL in base64. */
  input: string | Array<string>;
  model?: string | null;
  language?: string;
  encoding_format?: "float" | "base64";
  user?: string | null;
}

/** The retrieval of a version on `pairs` held-out pairs, and the other results of its evaluation. */
export interface Evaluation {
  t2i?: Recall;
  i2t?: Recall;
  pairs?: number;
}

export interface ExpansionError {
  code: string;
  detail: string;
}

export interface ExpansionItem {
  id: string;
  kind: "learn" | "assess" | "import" | "rebuild" | "base";
  language: string;
  state: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  phase: string | null;
  progress: number;
  step: number;
  steps: number;
  eta_seconds: number | null;
  attempt: number;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  version: number | null;
  release: number | null;
  error: ExpansionError | null;
  report: Record<string, unknown> | null;
  /** About its dataset; a person has confirmed it all the same. */
  doubts: Array<Doubt>;
}

export interface ExpansionPage {
  items: Array<ExpansionItem>;
  next_cursor: string | null;
}

/** A value, and how many pictures have it. */
export interface FacetValue {
  value: string | boolean | number;
  count: number;
}

export interface GalleryFacets {
  pictures: number;
  /** By `shown_at`, in UTC, newest first. */
  months: Array<MonthCount>;
  folders: Array<FacetValue>;
  cameras: Array<FacetValue>;
  collections: Array<FacetValue>;
}

/** Fields sent with the `file` of a language. */
export interface ImportForm {
  file: Blob;
  /** Only say what is in the file. */
  dry_run?: "true" | "false";
  /** Serve the language even if it is read worse than before; this is recorded. */
  force?: "true" | "false";
}

/** The share of the ten nearest pictures that searches found, `of` the gallery's captions or made-up texts. */
export interface IndexRecall {
  share: number;
  queries: number;
  of: "captions" | "made-up";
  /**
   * The most that is searched of a part of the index for ten hits, chosen for PICTOGLOT_RECALL: lists of a
   * segment, or candidates of pgvector's graph; null where all is compared, or Milvus decides.
   */
  depth: number | null;
  /** What `depth` counts. */
  unit: "lists" | "candidates" | null;
}

export interface KeyItem {
  id: string;
  scope: "search" | "write" | "admin";
  label: string;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  /** What the key is bound to; null for everything. */
  collections: Array<string> | null;
}

export interface KeyRequest {
  scope: "search" | "write" | "admin";
  label?: string;
  /** In the future, with a time zone. */
  expires_at?: string | null;
  /** The key sees, finds, counts and writes nothing else. Not with scope `admin`. */
  collections?: Array<string> | null;
}

export interface Keys {
  items: Array<KeyItem>;
}

/** A Traditional Knowledge (`tk`) or Biocultural (`bc`) label, with the text that its community gave it. */
export interface Label {
  kind: "tk" | "bc";
  name: string;
  text?: string;
  /** Of name and text. */
  language?: string;
  community?: string;
  url?: string | null;
  translations?: Array<Translation>;
}

export interface LabelName {
  kind: "tk" | "bc";
  name: string;
}

export interface LanguageDetail {
  language: string;
  name: string;
  native_name: string;
  direction: "ltr" | "rtl";
  /** What reads its texts: a taught version, or that of the base. null: nothing, it was only assessed. */
  version: number | null;
  captions: number;
  /** null of a language that was not taught, except English. */
  learned_at: string | null;
  report: Evaluation;
  /** An expansion learned it. */
  taught: boolean;
  /** The base reads it: its maker says so, or it was measured. */
  built_in: boolean;
  /** Rows of datasets that were too small to teach it; from 64 on it is taught. */
  waiting?: number;
  /** How well the base reads it untaught; null when nobody measured that. */
  assessed: Assessment | null;
  /** Whose it is, and what they allow; null where nothing was said. */
  terms: LanguageTerms | null;
  /** Letters of its texts that a plain keyboard lacks. */
  letters: Array<string>;
}

/** What is in a file; nothing was imported. */
export interface LanguageFileItem {
  dry_run?: boolean;
  language: string;
  name: string;
  base: string;
  learned_at: string;
  rows: number;
  bytes: number;
  /** Those of its language, which come with it; null where nothing was said. */
  terms: Terms | null;
  /** The public key of who signed it, in base64; null where nobody did. */
  signer: string | null;
  /** Held-out pairs by which it was measured where it was taught. */
  pairs: number;
  /** R@10 of texts there; null where nothing was measured. */
  recall: number | null;
}

/** Fields sent with the file `dataset`; `settings` is JSON. */
export interface LanguageForm {
  dataset?: Blob;
  language: string;
  /** JSON. Any of `epochs`, `learning_rate`, `vocabulary`, `seed`. */
  settings?: string;
  /**
   * A dictionary has an entry in each line, `{"word": "Apfel", "glosses": ["apple"]}`, and if it is known the
   * part of speech `pos` and other `forms`; what is taught of it is chosen.
   */
  kind?: "captions" | "dictionary";
  /**
   * JSON. Whose language it is, and what they allow, as `PUT /v1/languages/{tag}/terms` takes it; left out: as
   * it is.
   */
  terms?: string;
  /** The language of the glosses in a dictionary; left out: English. */
  pivot?: string | null;
  dry_run?: "true" | "false";
  /** Measure how well the language is read already, and teach nothing. */
  assess?: "true" | "false";
  /** Serve the language even if it is read worse than before; this is recorded. */
  force?: "true" | "false";
  /**
   * Pictures that are not in the gallery are left out, and their rows too, unless they have another text.
   * Otherwise the dataset is refused for them.
   */
  without_missing?: "true" | "false";
  /** Teach from this dataset alone, without those that the language was taught from before. */
  replace?: "true" | "false";
  /** Teach the dataset although there are `doubts` about it: a person said that it is right. */
  confirmed?: "true" | "false";
  /** Take the captions for the texts beside them, and these for captions. */
  swap?: "true" | "false";
  /**
   * In place of a file: teach from the answers that `POST /v1/languages/{tag}/words` has kept. They take the
   * place of those taught before.
   */
  words?: "true" | "false";
  /**
   * In place of a file: teach from the captions of pictures in the language, those that came with pictures and
   * those that were accepted. They take the place of those taught like this before.
   */
  captions?: "true" | "false";
}

export interface LanguageItem {
  language: string;
  name: string;
  native_name: string;
  direction: "ltr" | "rtl";
  /** What reads its texts: a taught version, or that of the base. null: nothing, it was only assessed. */
  version: number | null;
  captions: number;
  /** null of a language that was not taught, except English. */
  learned_at: string | null;
  report: Evaluation;
  /** An expansion learned it. */
  taught: boolean;
  /** The base reads it: its maker says so, or it was measured. */
  built_in: boolean;
  /** Rows of datasets that were too small to teach it; from 64 on it is taught. */
  waiting?: number;
  /** How well the base reads it untaught; null when nobody measured that. */
  assessed: Assessment | null;
  /** Whose it is, and what they allow; null where nothing was said. */
  terms: LanguageTerms | null;
}

/** The terms that a language has, or that it had when a dataset was sent or a version was made. */
export interface LanguageTerms {
  owner: string;
  contact: string;
  licence: string;
  statement: string;
  labels: Array<Label>;
  set_at: string;
}

/** What a withdrawal removes for good, or has removed; `release` serves. */
export interface LanguageWithdrawal {
  language: string;
  release: number;
  versions: Array<WithdrawnVersion>;
  datasets: Array<WithdrawnDataset>;
  /** Captions that came with datasets. */
  captions: number;
  /** Answers to words. */
  answers: number;
  remains: Array<Remainder>;
  dry_run: boolean;
  /**
   * What was done, signed by Ed25519 over the object without `signature`, as UTF-8 without blanks, its keys in
   * order; null of a dry run.
   */
  certificate: Record<string, unknown> | null;
}

export interface Languages {
  items: Array<LanguageItem>;
  shared_version: number;
  release: number;
}

/** What a picture may have, as the service is set. */
export interface Limits {
  picture_bytes: number;
  picture_pixels: number;
}

export interface Live {
  status?: "alive";
}

/** First hits of about the same chance: its mean, and the share that was right. */
export interface MatchBin {
  chance: number;
  right: number;
  count: number;
}

/**
 * How right the chances of hits are (`match`), on texts that they were not fitted to.
 *
 * At `min_match` 0.5: `kept` is the share of right first hits, `found` of the texts that keep a right hit at
 * all, and `absent` of the texts that keep nothing once what they mean is taken out of the gallery.
 */
export interface MatchQuality {
  measured_at: string;
  captions: number;
  /** In the gallery when it was measured. */
  pictures: number;
  /** Why hits have no `match`. */
  reason?: "few_captions" | "few_pictures" | null;
  /** Expected calibration error of first hits. */
  error?: number | null;
  /** What it would be on as many texts if every chance were right. */
  by_chance?: number | null;
  /** Expected calibration error of the first ten hits. */
  error_all?: number | null;
  kept?: number | null;
  found?: number | null;
  absent?: number | null;
  /** The language on whose curves it leans where it has few captions. */
  near?: string | null;
  /**
   * Held-out captions without pictures that it follows from: how far they are from what they mean says what the
   * `captions`, English ones, would find in this language. 0: it is measured.
   */
  texts?: number;
  bins?: Array<MatchBin>;
}

/** What the pictures should not be like: a text, a picture of the gallery, or both. */
export interface Minus {
  text?: string | null;
  picture?: string | null;
}

/** The base, as OpenAI describes a model, and what it reads. */
export interface Model {
  id: string;
  object?: "model";
  /** When this data root was made with it, in seconds since 1970. */
  created: number;
  owned_by?: "pictoglot";
  /** Tags of what the base reads untaught; `mul`: many more, without a list. */
  languages: Array<string>;
  /** Tags of the languages that it was taught and that are served. */
  taught: Array<string>;
  dimension: number;
  inputs?: ["text", "picture"];
}

export interface Models {
  object?: "list";
  data: Array<Model>;
}

export interface MonthCount {
  /** `2019-07`. */
  value: string;
  count: number;
}

export interface NearPicture {
  id: string;
  name: string;
  /** Of the photograph, as in its record. */
  width: number;
  height: number;
  /** To the first picture of the group; 1 for that one. */
  score: number;
  url: string;
}

export interface NewKey {
  id: string;
  scope: "search" | "write" | "admin";
  label: string;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  /** What the key is bound to; null for everything. */
  collections: Array<string> | null;
  /** Shown only in this response. */
  key: string;
}

/** What this process has open. After a move it opens the other base beside, and serves this one until then. */
export interface OpenBase {
  base: string;
  encoding: string;
  version: number;
  release: number | null;
}

/** What becomes of all these pictures; `deleted` goes alone. */
export interface PictureChanges {
  ids: Array<string>;
  add_tags?: Array<string>;
  remove_tags?: Array<string>;
  collection?: string | null;
  /** true deletes them, false brings back what was deleted within a day. */
  deleted?: boolean | null;
}

/** Fields sent with the file `picture`; `captions` is JSON: `{TAG: [text, ...]}`. */
export interface PictureForm {
  picture: Blob;
  /** JSON. If left out, existing captions stay. */
  captions?: string;
  /** If left out, it stays, and is `default` for a new one. */
  collection?: string | null;
  /** At most 64: repeated, or a JSON list. If left out, existing tags stay. */
  tags?: Array<string> | null;
  /**
   * JSON. A flat JSON object of at most 16 KiB: keys of 1 to 64 of `a-z 0-9 _`; values are strings, numbers,
   * true or false, and lists of strings. A string that is an RFC 3339 date is also a date. If left out,
   * existing metadata stays.
   */
  metadata?: string;
}

/** `collection`, `tags`, `metadata`, `etag`, `width` and `height` are null while the registry does not answer. */
export interface PictureHit {
  id?: string;
  /** By what the hits are ordered: of the meaning, the words, or 0 to 1 for `both`. */
  score?: number;
  /** Cosine to what is meant; null where only words found it. */
  meaning?: number | null;
  /** Share of the words that it has, by their weight; null without any. */
  words?: number | null;
  rank?: number;
  url?: string;
  captions?: Record<string, Array<string>>;
  /** Chance that this is what the text means; null where it is not known. */
  match?: number | null;
  /**
   * Whether it rather is what the text means than not: it has all its words, or a `match` of 0.5 or more. Such
   * hits come first. null where that is not known.
   */
  likely?: boolean | null;
  collection?: string | null;
  tags?: Array<string> | null;
  metadata?: Record<string, unknown> | null;
  etag?: string | null;
  /** Of the photograph in pixels, upright. */
  width?: number | null;
  height?: number | null;
}

export interface PictureHits {
  items: Array<PictureHit>;
  /** As asked for with `facets`. */
  facets?: Record<string, Array<FacetValue>> | null;
  /** null in a search by picture. */
  language: QueryLanguage | null;
  version: number | null;
  release: number;
  generation: string;
  truncated: boolean;
  warnings: Array<string>;
  /** Words of the text that no caption has and nobody taught; they are not read, unless all are such. */
  unknown_words: Array<string>;
  /** Words for people, places and events that the base does not know: what they find is a guess. */
  guessed_words: Array<string>;
  /** For unknown words, the nearest that is known. */
  did_you_mean: Record<string, string>;
  /** How many hits `min_match` left out of this page; without items: nothing matches well. */
  below_min_match?: number | null;
  next_cursor: string | null;
  timing_ms: number;
}

export interface PictureItem {
  id?: string;
  collection?: string;
  captions?: Record<string, Array<string>>;
  /** Captions in languages that are not served: searchable when they are taught. */
  waiting?: Record<string, Array<string>>;
  /** Captions that came with the picture or a patch, in whatever language: its record's. */
  own?: Record<string, Array<string>>;
  tags?: Array<string>;
  metadata?: Record<string, unknown>;
  /** `title` or `file_name` of its metadata, else the last part of its id. */
  name?: string;
  url?: string;
  /** Of the photograph in pixels, upright; the stored copy may be smaller. */
  width?: number;
  height?: number;
  /** Whether its bytes are kept as they were sent: `GET .../original`. */
  original?: boolean;
  created_at?: string;
  /** When it was taken, as `taken_at` of its metadata tells, else `created_at`. */
  shown_at?: string;
  /** As the header `ETag`: of collection, tags, metadata, content and own captions. */
  etag?: string;
}

export interface PictureOutcome {
  /** Null where it would have come from the bytes of a picture that is refused. */
  id: string | null;
  /** `kept`: the picture was there with this record; nothing changed. */
  outcome: "created" | "replaced" | "kept" | "refused";
  /** Of the answer that this picture alone would have got. */
  status: number;
  picture: PictureItem | null;
  /** Why it is refused. With status 503 or 507 it may be sent again. */
  problem: Problem | null;
  /** Another picture with the same bytes, the first that the key may see; of bytes that were not here before. */
  already_there_as: string | null;
}

/** What became of each picture, in the order in which they were sent. */
export interface PictureOutcomes {
  items: Array<PictureOutcome>;
}

export interface PicturePage {
  items: Array<PictureItem>;
  next_cursor: string | null;
  /** As asked for with `facets`. */
  facets?: Record<string, Array<FacetValue>> | null;
}

/**
 * Pictures for a text, like a picture of the gallery, or both; without what they should not be like.
 *
 * In a form `picture` is a file; `minus`, `weights` and `filter` are JSON; lists are repeated, as a JSON list
 * or separated by commas. Without a text, `language` must be available, and only selects the language of the
 * captions.
 */
export interface PictureSearch {
  text?: string | null;
  /** Pictures like this one, which is not among the hits. */
  picture?: string | null;
  /** What the pictures should not be like. */
  minus?: Minus | null;
  weights?: Weights | null;
  /**
   * `meaning`: by what pictures show. `words`: pictures that have words of the text in captions, tags or
   * metadata. `both`: first what is called so, then what has all the words, then by meaning. Default: `both`
   * for a text, `meaning` with a picture.
   */
  mode?: "meaning" | "words" | "both" | null;
  /** `auto`, `shared` or the tag of a learned language. */
  language?: string;
  limit?: number;
  min_score?: number | null;
  /** Least `match` of a hit. */
  min_match?: number | null;
  /** `next_cursor` of the page before. Beyond rank 10,000 there is no page: 422 `page_too_deep`. */
  cursor?: string | null;
  /**
   * Languages of the captions in the answer; default: the language used, and English. A search by words also
   * sends, by default, the captions in other languages that have some of them.
   */
  captions?: Array<string> | "all" | "none" | null;
  /** As Qdrant's: `must`, `should`, `must_not` of conditions with `key` and `match` or `range`. */
  filter?: Record<string, unknown>;
  /** Keys whose values are counted among the pictures that the filter leaves. */
  facets?: Array<string> | null;
}

export interface Place {
  location: string;
  code: string;
}

/** The body of every error (RFC 9457). What only some errors have is left out of others. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  request_id: string;
  errors: Array<Place>;
  /** With 429 and 503: as `Retry-After`. */
  retry_after_seconds?: number | null;
  /** With `language_not_found`: the available ones. */
  languages?: Array<string> | null;
  /** With `alias_moved`: the release that serves now. */
  release?: number | null;
  /** With `expansion_in_progress`: the id of that expansion. */
  expansion?: string | null;
  /** With refused datasets: counts and lines by kind of fault. */
  report?: Record<string, unknown> | null;
  /** With `picture_not_found`: how many pictures are unknown. */
  count?: number | null;
  /** With `version_pruned`: the versions whose files are gone. */
  versions?: Array<number> | null;
  /** With `dataset_invalid`: what is wrong with the file as a whole. */
  kind?: string | null;
}

export interface ProposalResult {
  /** Accepted, or come with the pictures; counted up to `needed`. */
  captions: number;
  /** With so many it can be taught. */
  needed: number;
  /** Two have agreed: it is a caption of the picture now. */
  accepted: boolean;
}

/** A caption that waits, or was accepted: when, and who wrote it, unless the caller may only search. */
export interface ProposedCaption {
  id: number;
  picture: string;
  text: string;
  /** As it was given; empty if none was. */
  name: string;
  /** Of the key. */
  label: string;
  proposed_at: string;
  accepted_at: string | null;
  /** The id of the key of the keeper, or of the second who agreed. */
  accepted_by: string | null;
}

/** The newest first. */
export interface ProposedCaptions {
  items: Array<ProposedCaption>;
}

export interface PruneRequest {
  /** How many of the newest releases stay in reach. */
  keep?: number;
  /** The release you have seen; 409 if another serves. */
  expected?: number | null;
  dry_run?: boolean;
}

export interface PruneResult {
  /** The release that serves. */
  release: number;
  /** The oldest release in reach. */
  oldest: number;
  items: Array<PrunedItem>;
  bytes: number;
  dry_run: boolean;
}

/** One thing that goes, and why; `bytes` is about how much space it takes. */
export interface PrunedItem {
  what: "version" | "vectors" | "dataset";
  name: string;
  language: string;
  why: string;
  bytes: number;
}

export interface PutItem {
  id?: string;
  collection?: string;
  captions?: Record<string, Array<string>>;
  /** Captions in languages that are not served: searchable when they are taught. */
  waiting?: Record<string, Array<string>>;
  /** Captions that came with the picture or a patch, in whatever language: its record's. */
  own?: Record<string, Array<string>>;
  tags?: Array<string>;
  metadata?: Record<string, unknown>;
  /** `title` or `file_name` of its metadata, else the last part of its id. */
  name?: string;
  url?: string;
  /** Of the photograph in pixels, upright; the stored copy may be smaller. */
  width?: number;
  height?: number;
  /** Whether its bytes are kept as they were sent: `GET .../original`. */
  original?: boolean;
  created_at?: string;
  /** When it was taken, as `taken_at` of its metadata tells, else `created_at`. */
  shown_at?: string;
  /** As the header `ETag`: of collection, tags, metadata, content and own captions. */
  etag?: string;
  /**
   * Another picture with the same bytes, the first that the key may see; of bytes that were not here before.
   * Left out where there is none.
   */
  already_there_as?: string | null;
}

export interface QueryLanguage {
  requested: string;
  used: string;
  source: "requested" | "detected" | "shared";
  confidence: number | null;
  /** Of the language that read the text; left out where nothing was said. */
  terms?: TermsInBrief | null;
}

/** What waits: texts and pictures to be encoded, changes to be sealed; expansions that are queued, or running. */
export interface Queues {
  texts: number;
  pictures: number;
  unsealed: number;
  queued: number;
  running: number;
}

export interface Ready {
  release: number | null;
  base: string;
  /** What computes the vectors, for example `openvino in bfloat16`. */
  encoding: string;
  /** Of each vector set; empty without a key that may see all. */
  generations: Record<string, string>;
  /** Codes, or with a key that may see all also sentences. */
  degraded: Array<string>;
  status?: "ready";
}

/** Fractions from 0 to 1; null where nothing was measured. */
export interface Recall {
  "R@1"?: number | null;
  "R@5"?: number | null;
  "R@10"?: number | null;
}

/** A JSON merge patch (RFC 7396): what is left out stays, null removes, lists are replaced. */
export interface RecordPatch {
  captions?: Record<string, Array<string> | null> | null;
  tags?: Array<string> | null;
  metadata?: Record<string, unknown> | null;
  collection?: string | null;
}

export interface ReleaseItem {
  number: number;
  shared: number;
  languages: Record<string, number>;
  created_at: string;
  actor: string;
  reason: string;
  change: Record<string, unknown>;
  /** Versions of it that were pruned: with any, it cannot be restored. */
  pruned: Array<number>;
}

export interface ReleasePage {
  items: Array<ReleaseItem>;
  next_cursor: string | null;
}

/** What a withdrawal leaves, and why. */
export interface Remainder {
  what: "version" | "captions" | "dataset" | "terms" | "backups" | "exports" | "history";
  name: string;
  why: string;
}

export interface RestoreRequest {
  expected: number;
  reason?: string;
}

/** What a keeper accepts, and what not, by id. */
export interface Review {
  accept?: Array<number>;
  reject?: Array<number>;
}

export interface ReviewResult {
  /** Accepted, or come with the pictures; counted up to `needed`. */
  captions: number;
  /** With so many it can be taught. */
  needed: number;
  accepted: number;
}

export interface Rollback {
  release: number;
  language: string;
  from_version: number;
  to_version: number | null;
  unchanged: Array<string>;
  shared_version: number;
  replay: Array<string>;
  rebuild_expansion: string | null;
  dry_run: boolean;
}

export interface RollbackRequest {
  reason?: string;
  /** The release you have seen; 409 if another serves. */
  expected?: number | null;
  dry_run?: boolean;
  rebuild?: boolean;
}

/** What `POST /v1/search/pictures` would answer: one of `answer` and `problem` is null. */
export interface SearchAnswer {
  status: number;
  answer: PictureHits | null;
  problem: Problem | null;
}

/** In the order of the searches, all of one release and one state of the vectors. */
export interface SearchAnswers {
  items: Array<SearchAnswer>;
  release: number;
  timing_ms: number;
}

/** Searches, each as `POST /v1/search/pictures` takes it as JSON; each is answered or refused on its own. */
export interface Searches {
  searches: Array<Record<string, unknown>>;
}

export interface ServiceStatus {
  release: number | null;
  base: string;
  /** What computes the vectors, for example `openvino in bfloat16`. */
  encoding: string;
  /** Of each vector set; empty without a key that may see all. */
  generations: Record<string, string>;
  /** Codes, or with a key that may see all also sentences. */
  degraded: Array<string>;
  /** The code of each thing that is wrong, as metrics count them. */
  faults: Array<string>;
  space: Space;
  queues: Queues;
  /** The newest one, as far as this machine knows. */
  backup: BackupNote | null;
}

export interface SessionItem {
  id: string;
  /** `oidc:SUBJECT` for a person, `key:ID` for a key that a browser remembers. */
  subject: string;
  label: string;
  created_at: string;
  expires_at: string;
}

export interface Sessions {
  items: Array<SessionItem>;
}

/** A row as a person sees it. */
export interface ShownRow {
  line: number;
  caption: string;
  /** What stands beside the caption; null where that is a picture alone. */
  text: string | null;
  /** Of the `text`. */
  language: string | null;
}

/** The disk under the data root, in bytes; `reserve` is what a write must leave. */
export interface Space {
  free: number;
  total: number;
  reserve: number;
}

export interface SubmittedExpansion {
  expansion: ExpansionItem;
}

/**
 * What a move takes, in bytes of disk, or null when it was queued before; without `expansion` it was not
 * queued.
 */
export interface SubmittedMove {
  base: string;
  /** Those that are taught again. */
  languages?: Array<string> | null;
  needed?: number | null;
  free?: number | null;
  expansion: ExpansionItem | null;
  dry_run: boolean;
}

/** A language that a text may name. */
export interface SuggestedLanguage {
  /** Its tag. */
  language: string;
  name: string;
  native_name: string;
  direction: "ltr" | "rtl";
  /** The name or tag that is like the text; names are in small letters. */
  matched: string;
  /** Its code of ISO 639-3; null if it has none. */
  iso639_3: string | null;
  /** That of Glottolog; null where it has none, as for several at once. */
  glottocode: string | null;
  served: boolean;
}

export interface SuggestedLanguages {
  items: Array<SuggestedLanguage>;
}

/** The settings of one expansion; each has a default. */
export interface TeachingSettings {
  /** 0: chosen by the size of the dataset. */
  epochs?: number;
  /** null: 0.002 to 0.004, by the size of the dataset. */
  learning_rate?: number | null;
  /** Maximum number of tokens added for the language. */
  vocabulary?: number;
  seed?: number;
}

/**
 * What a community says of its language; all of it is optional.
 *
 * A project of Local Contexts' hub, as JSON with `tk_labels` and `bc_labels`, is read as its labels.
 */
export interface Terms {
  owner?: string;
  contact?: string;
  /** An SPDX identifier, a name or an address. */
  licence?: string;
  statement?: string;
  labels?: Array<Label>;
}

/** The terms of a language that was searched; `GET /v1/languages/{tag}` has the texts of its labels, too. */
export interface TermsInBrief {
  owner: string;
  contact: string;
  licence: string;
  statement: string;
  labels: Array<LabelName>;
}

/** The name and the text of a label in another language. */
export interface Translation {
  language: string;
  name?: string;
  text?: string;
}

export interface Usage {
  prompt_tokens: number;
  total_tokens: number;
}

export interface VerifyResult {
  ok: boolean;
  release: number;
  problems: Array<string>;
  recall: IndexRecall | null;
}

export interface VersionDetail {
  number: number;
  parent: number | null;
  language: string;
  expansion: string | null;
  manifest_sha256: string | null;
  rows: number;
  bytes: number;
  report: Evaluation;
  created_at: string;
  /** When it was pruned: it cannot serve any more. */
  pruned_at: string | null;
  manifest: Record<string, unknown> | null;
  /** sha256 by file; of version 0, the fingerprints of the base's towers. */
  digests: Record<string, string>;
  /** The page of the report; as JSON it is at `/v1/versions/{number}/report`. */
  report_page: string;
}

export interface VersionItem {
  number: number;
  parent: number | null;
  language: string;
  expansion: string | null;
  manifest_sha256: string | null;
  rows: number;
  bytes: number;
  report: Evaluation;
  created_at: string;
  /** When it was pruned: it cannot serve any more. */
  pruned_at: string | null;
  /** The page of the report; as JSON it is at `/v1/versions/{number}/report`. */
  report_page: string;
}

export interface VersionPage {
  items: Array<VersionItem>;
  next_cursor: string | null;
}

/** The full evaluation of a version, and what became of it. */
export interface VersionReport {
  version: number;
  parent: number | null;
  language: string;
  name: string;
  native_name: string;
  direction: "ltr" | "rtl";
  created_at: string;
  expansion: string | null;
  /** Of the expansion: `failed` when the gate refused the version. */
  state: string | null;
  error: ExpansionError | null;
  /** Whether the shared table moved to it; null while this is undecided. */
  moved: boolean | null;
  /** Those of the language when the version was made. */
  terms: LanguageTerms | null;
  /** The versions it builds upon, oldest first, and itself. */
  chain: Array<ChainStep>;
  /** null until a worker has measured it, as it does once it serves. */
  match: MatchQuality | null;
  /** R@10 of the index that serves, against an exact scan, with texts; null while there is no picture. */
  index: IndexRecall | null;
  report: Evaluation;
}

/** Rows of a language that are too few to teach it; the next dataset joins them. */
export interface WaitingCounts {
  rows: number;
  needed: number;
}

/** A picture without a caption in the language, and what others propose for it. */
export interface WantedPicture {
  picture: string;
  proposals: Array<ProposedCaption>;
}

export interface WantedPictures {
  /** Accepted, or come with the pictures; counted up to `needed`. */
  captions: number;
  /** With so many it can be taught. */
  needed: number;
  items: Array<WantedPicture>;
}

/** How much each part of a search counts: from 0, which is not at all, to 100. */
export interface Weights {
  text?: number;
  picture?: number;
  minus_text?: number;
  minus_picture?: number;
  meaning?: number;
  words?: number;
}

export interface WithdrawalRequest {
  reason?: string;
  /** The release you have seen; 409 if another serves. */
  expected?: number | null;
  dry_run?: boolean;
}

export interface WithdrawnDataset {
  expansion: string;
  sha256: string | null;
  bytes: number | null;
}

export interface WithdrawnVersion {
  number: number;
  manifest_sha256: string | null;
  bytes: number;
}

/** No searches are accepted: `index_unavailable`. */
export interface NotReady {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  request_id: string;
  errors: Array<Place>;
  /** With 429 and 503: as `Retry-After`. */
  retry_after_seconds?: number | null;
  /** With `language_not_found`: the available ones. */
  languages?: Array<string> | null;
  release: number | null;
  /** With `expansion_in_progress`: the id of that expansion. */
  expansion?: string | null;
  /** With refused datasets: counts and lines by kind of fault. */
  report?: Record<string, unknown> | null;
  /** With `picture_not_found`: how many pictures are unknown. */
  count?: number | null;
  /** With `version_pruned`: the versions whose files are gone. */
  versions?: Array<number> | null;
  /** With `dataset_invalid`: what is wrong with the file as a whole. */
  kind?: string | null;
  base: string;
  /** What computes the vectors, for example `openvino in bfloat16`. */
  encoding: string;
  /** Of each vector set; empty without a key that may see all. */
  generations: Record<string, string>;
  /** Codes, or with a key that may see all also sentences. */
  degraded: Array<string>;
}

/**
 * Pictures for a text, like a picture of the gallery, or both; without what they should not be like.
 *
 * In a form `picture` is a file; `minus`, `weights` and `filter` are JSON; lists are repeated, as a JSON list
 * or separated by commas. Without a text, `language` must be available, and only selects the language of the
 * captions.
 */
export interface SimilarPictures {
  picture: Blob;
  text?: string | null;
  /** JSON. What the pictures should not be like. */
  minus?: string;
  /** JSON. */
  weights?: string;
  /**
   * `meaning`: by what pictures show. `words`: pictures that have words of the text in captions, tags or
   * metadata. `both`: first what is called so, then what has all the words, then by meaning. Default: `both`
   * for a text, `meaning` with a picture.
   */
  mode?: "meaning" | "words" | "both" | null;
  /** `auto`, `shared` or the tag of a learned language. */
  language?: string;
  limit?: number;
  min_score?: number | null;
  /** Least `match` of a hit. */
  min_match?: number | null;
  /** `next_cursor` of the page before. Beyond rank 10,000 there is no page: 422 `page_too_deep`. */
  cursor?: string | null;
  /**
   * Languages of the captions in the answer; default: the language used, and English. A search by words also
   * sends, by default, the captions in other languages that have some of them.
   */
  captions?: Array<string> | "all" | "none" | null;
  /** JSON. As Qdrant's: `must`, `should`, `must_not` of conditions with `key` and `match` or `range`. */
  filter?: string;
  /** Keys whose values are counted among the pictures that the filter leaves. */
  facets?: Array<string> | null;
}

/** Captions for a picture in the gallery, or with a form for an uploaded one: fields as in a search there. */
export interface CaptionsOfUpload {
  picture: Blob;
  languages?: Array<string> | null;
  limit?: number;
  /**
   * JSON. Only captions of pictures that it leaves. As Qdrant's: `must`, `should`, `must_not` of conditions
   * with `key` and `match` or `range`.
   */
  filter?: string;
}

/** OpenAI's format; `model` and `user` are accepted and have no effect. */
export interface PictureEmbedding {
  picture: Blob;
  model?: string | null;
  language?: string;
  encoding_format?: "float" | "base64";
  user?: string | null;
}

/** What each operation takes and answers, by its method and path. */
export interface Operations {
  /**
   * Pictures for a text, like a picture of the gallery or, with a form, an uploaded one; only what the filter
   * leaves.
   *
   * Filter and words are read from what is stored now, the vectors from the release that serves.
   */
  "POST /v1/search/pictures": {
    query?: { fields?: string | null; };
    body: PictureSearch | SimilarPictures;
    answer: PictureHits;
  };
  /**
   * Captions for an uploaded picture or one in the gallery, `limit` in each language; only what the filter
   * leaves.
   *
   * A base that reads more than English finds captions in languages that were not taught too, with the warning
   * `language_not_taught`.
   */
  "POST /v1/search/captions": {
    body: CaptionSearch | CaptionsOfUpload;
    answer: CaptionHits;
  };
  /**
   * Up to 100 searches for pictures. They count as so many requests.
   *
   * `items` are in their order, each with `status` and either `answer` or `problem`. After ten seconds, or 32
   * MiB of answers, those that are not answered yet are refused: `overloaded`.
   */
  "POST /v1/search/batch": {
    query?: { fields?: string | null; };
    body: Searches;
    answer: SearchAnswers;
  };
  /**
   * Unit vectors of texts and pictures; with `language` `auto`, each text is encoded by its own language's
   * version.
   *
   * A picture among the inputs is a data URL in base64; with a form, one file is sent instead.
   */
  "POST /v1/embeddings": {
    body: EmbeddingsRequest | PictureEmbedding;
    answer: Embeddings;
  };
  /** The one model of this service, as OpenAI lists models, with the languages that it reads. */
  "GET /v1/models": {
    answer: Models;
  };
  /**
   * Add or replace a picture; 201 when the id is new. The picture can be searched when the answer arrives.
   *
   * With `If-Match`, 412 `record_changed` unless there is a record with this `ETag`; `*` is any. A key that is
   * bound to collections gets 404 where a picture outside of them has this id.
   */
  "PUT /v1/pictures/{id}": {
    path: { id: string; };
    header?: { "If-Match"?: string | null; };
    body: PictureForm;
    answer: PutItem;
  };
  /** One picture and its captions in the languages that are served; `waiting` are those in others. */
  "GET /v1/pictures/{id}": {
    path: { id: string; };
    query?: { fields?: string | null; };
    answer: PictureItem;
  };
  /**
   * Change captions, tags, metadata or collection: a JSON merge patch (RFC 7396). The picture stays as it is.
   *
   * With `If-Match`, 412 `record_changed` unless the record still has this `ETag`. When the answer arrives, new
   * captions are found. Those in a language that is not served are kept, and are found when it is taught.
   */
  "PATCH /v1/pictures/{id}": {
    path: { id: string; };
    header?: { "If-Match"?: string | null; };
    body: RecordPatch;
    answer: PictureItem;
  };
  /** Delete a picture; when the answer arrives, no search returns it any more. `If-Match` as with `PATCH`. */
  "DELETE /v1/pictures/{id}": {
    path: { id: string; };
    header?: { "If-Match"?: string | null; };
    answer: undefined;
  };
  /**
   * Add a picture under the sha256 of its bytes; the same bytes give the same id.
   *
   * With a collection other than `default`, or a key that is bound to collections, under the sha256 of that
   * hash and the collection: the same bytes in another collection are another picture. One that is there
   * already stays in the collection that it is in now.
   */
  "POST /v1/pictures": {
    body: PictureForm;
    answer: PutItem;
  };
  /**
   * Pictures in the order in which they were added or taken, or newest first; only those that the filter
   * leaves.
   *
   * 503 `registry_unavailable` after six seconds, as a search with a filter.
   */
  "GET /v1/pictures": {
    query?: { limit?: number; cursor?: string | null; filter?: string | null; collection?: string | null; sort?: "created_at" | "-created_at" | "shown_at" | "-shown_at"; facets?: Array<string> | null; fields?: string | null; };
    answer: PicturePage;
  };
  /** The stored picture: a JPEG of at most 1,024 pixels a side. */
  "GET /v1/pictures/{id}/content": {
    path: { id: string; };
    query?: { v?: string | null; };
    answer: Blob;
  };
  /** A small copy: as the stored picture, at most 256 pixels a side. */
  "GET /v1/pictures/{id}/thumbnail": {
    path: { id: string; };
    query?: { v?: string | null; };
    answer: Blob;
  };
  /**
   * The bytes as they were sent, as a file to save.
   *
   * 404 `original_not_kept` unless `PICTOGLOT_KEEP_ORIGINALS` was set when they were: a copy that was kept of
   * the same bytes in another picture is not given, because it would tell of that.
   */
  "GET /v1/pictures/{id}/original": {
    path: { id: string; };
    query?: { v?: string | null; };
    answer: Blob;
  };
  /**
   * Add or replace up to 256 pictures: all that can be taken, whatever is wrong with the others.
   *
   * One after another where several have the same id. All that are not refused can be searched when the answer
   * arrives. To send the same again changes nothing. `fields` chooses what each `picture` of the answer has.
   */
  "POST /v1/pictures/batch": {
    query?: { fields?: string | null; };
    body: BatchForm;
    answer: PictureOutcomes;
  };
  /**
   * Change up to 1,000 pictures in one transaction: tag them, move them to a collection, delete them, or bring
   * back.
   *
   * `deleted: true` deletes them; `deleted: false` brings back, for a day, what was deleted, with captions and
   * record. `kept` are those that were so already, `missing` those that there are not: to send the same again
   * changes nothing.
   */
  "POST /v1/pictures/changes": {
    body: PictureChanges;
    answer: ChangeOutcomes;
  };
  /**
   * The collections that the key may see, by name, with the number of their pictures.
   *
   * 503 `registry_unavailable` after six seconds, as a search with a filter.
   */
  "GET /v1/collections": {
    answer: Collections;
  };
  /**
   * Count pictures by month, newest first, and by folder, camera and collection, most first.
   *
   * Those that the filter leaves and the key may see; at most 1,200 of each. A month is that of `shown_at`, in
   * UTC. 503 `registry_unavailable` after six seconds, as a search with a filter.
   */
  "GET /v1/facets": {
    query?: { filter?: string | null; collection?: string | null; };
    answer: GalleryFacets;
  };
  /**
   * Return what a picture may have: bytes and pixels. Some formats are read up to fewer pixels:
   * docs/gallery.md.
   */
  "GET /v1/limits": {
    answer: Limits;
  };
  /**
   * Groups of pictures that are nearly the same, among those that the filter leaves.
   *
   * A page looks at pictures for two seconds at most, so it may have fewer groups than `limit`, or none, and
   * yet a `next_cursor`. Two pictures whose score is `min_score` or more are in one group at least, unless one
   * has more than 100 such others: then only the nearest of these are seen, and the group says `more`.
   */
  "GET /v1/duplicates": {
    query?: { min_score?: number; limit?: number; cursor?: string | null; filter?: string | null; collection?: string | null; };
    answer: Duplicates;
  };
  /**
   * Teach a language from a dataset, or only assess it: 202 with the expansion.
   *
   * One that was taught before is taught from its earlier datasets again, together with this one, unless that
   * is to `replace` them.
   *
   * With `dry_run`, only 200 and the dataset's report. A dataset that looks wrong is refused with
   * `dataset_doubted` unless it is `confirmed`. What is wrong with pairs has codes of its own,
   * `pivot_not_served` and `pivot_text_empty`; an assessment without a held-out row is refused with
   * `nothing_held_out`.
   */
  "POST /v1/languages": {
    header?: { "Idempotency-Key"?: string | null; };
    body: LanguageForm;
    answer: SubmittedExpansion | DryRun;
  };
  /**
   * The languages that are served, that the base reads, that captions are in, or that were assessed.
   *
   * With a key that is bound to collections, `captions` counts those of their pictures.
   */
  "GET /v1/languages": {
    answer: Languages;
  };
  /** Expansions, newest first. */
  "GET /v1/expansions": {
    query?: { limit?: number; cursor?: string | null; };
    answer: ExpansionPage;
  };
  /** The current state of one expansion. */
  "GET /v1/expansions/{id}": {
    path: { id: string; };
    answer: ExpansionItem;
  };
  /** Send the expansion after each change, as server-sent events named `expansion`, until it or the key ends. */
  "GET /v1/expansions/{id}/events": {
    path: { id: string; };
    answer: string;
  };
  /** Stop an expansion: at once when it is queued, within seconds when it runs. */
  "POST /v1/expansions/{id}/cancel": {
    path: { id: string; };
    answer: ExpansionItem;
  };
  /**
   * Suggest languages that a text may name: by tag, ISO 639-3, Glottocode, or name in any language; best first.
   *
   * A private tag (`x-…`) suggests itself.
   */
  "GET /v1/languages/names": {
    query: { query: string; limit?: number; };
    answer: SuggestedLanguages;
  };
  /**
   * Describe one language, also one that nobody taught yet: as in the list, with its special letters.
   *
   * Until it is taught, a key that is bound to collections sees those of captions in them.
   */
  "GET /v1/languages/{tag}": {
    path: { tag: string; };
    answer: LanguageDetail;
  };
  /**
   * Set the terms of a language, in place of those before; empty ones take them away: null.
   *
   * Terms that stand are changed by an administrator alone.
   */
  "PUT /v1/languages/{tag}/terms": {
    path: { tag: string; };
    body: Terms;
    answer: LanguageTerms | null;
  };
  /**
   * List English words to ask a speaker for: those that name most of the pictures which have no word yet.
   *
   * First, where they are counted, words of searches that nobody taught, at most half of the list. The others
   * are chosen by the base alone, without captions. What was taught or answered is not asked again. With a key
   * that is bound to collections, only their pictures count. The first time, the base reads some thousand
   * words: until it has, the answer is 503 `overloaded`.
   */
  "GET /v1/languages/{tag}/words": {
    path: { tag: string; };
    query?: { count?: number; };
    answer: AskedWords;
  };
  /**
   * Keep what a speaker answers, at once. A word that is sent again is corrected; what others answered stays.
   *
   * Without captions, the language has no word for it, and it is not asked again. Nothing is taught by this.
   */
  "POST /v1/languages/{tag}/words": {
    path: { tag: string; };
    body: Answers;
    answer: AnswerCounts;
  };
  /**
   * List pictures without a caption in a language, which this person (key and name) has not captioned yet.
   *
   * First those for which somebody else has proposed one.
   */
  "GET /v1/languages/{tag}/captions/wanted": {
    path: { tag: string; };
    query?: { count?: number; name?: string; };
    answer: WantedPictures;
  };
  /**
   * Propose a caption for a picture; it becomes one when another person proposes the same, or a keeper accepts
   * it.
   *
   * Punctuation and capital letters do not matter. Sent again by the same person, it is corrected.
   */
  "POST /v1/languages/{tag}/captions": {
    path: { tag: string; };
    body: CaptionProposal;
    answer: ProposalResult;
  };
  /**
   * List the proposals that wait, or those that were accepted: who wrote them, and when.
   *
   * A key that may only search is not told who.
   */
  "GET /v1/languages/{tag}/captions": {
    path: { tag: string; };
    query?: { accepted?: "true" | "false"; count?: number; };
    answer: ProposedCaptions;
  };
  /** Accept proposals as captions of their pictures, and delete others; those that do not wait are passed over. */
  "POST /v1/languages/{tag}/captions/review": {
    path: { tag: string; };
    body: Review;
    answer: ReviewResult;
  };
  /**
   * Send a taught language as a file, for any service with this base: its own rows and tokens, its test, its
   * terms.
   *
   * It holds the held-out texts by which it is measured. With `sign`, it is signed by this data root's key.
   */
  "GET /v1/languages/{tag}/file": {
    path: { tag: string; };
    query?: { sign?: "true" | "false"; };
    answer: Blob;
  };
  /**
   * Import a language from a file: 202 with the expansion, which measures it and serves it if it passes the
   * gate.
   *
   * It is refused with `language_of_other_base` if it was taught for another base, with `language_file_changed`
   * if it is not as it was made, else with `language_file_invalid`. Its terms become those of the language.
   */
  "POST /v1/languages/import": {
    header?: { "Idempotency-Key"?: string | null; };
    body: ImportForm;
    answer: SubmittedExpansion | LanguageFileItem;
  };
  /** Versions, newest first. */
  "GET /v1/versions": {
    query?: { limit?: number; cursor?: string | null; };
    answer: VersionPage;
  };
  /** One version with its manifest and hashes of its files; a base has the fingerprints of its towers. */
  "GET /v1/versions/{number}": {
    path: { number: number; };
    answer: VersionDetail;
  };
  /** The evaluation of a version, promoted or not; `/versions/{number}/report` shows it as a page. */
  "GET /v1/versions/{number}/report": {
    path: { number: number; };
    answer: VersionReport;
  };
  /**
   * The datasets that a version's language was taught from, oldest first.
   *
   * Taught again in this order, they make the language again. A base has none.
   */
  "GET /v1/versions/{number}/datasets": {
    path: { number: number; };
    answer: Datasets;
  };
  /** One of these datasets, byte for byte as it was sent. 404 when it was pruned. */
  "GET /v1/versions/{number}/datasets/{expansion}": {
    path: { number: number; expansion: string; };
    answer: Blob;
  };
  /** A file of a version: `manifest.json`, or one that it names. 404 when they were pruned, and of a base. */
  "GET /v1/versions/{number}/files/{name}": {
    path: { number: number; name: string; };
    answer: Blob;
  };
  /**
   * Roll a language back to its previous version, or remove it if it has none; other languages keep their
   * versions.
   *
   * To make a retry safe, send `expected`, the release you have seen: if another one serves by now, the answer
   * is 409 `alias_moved`. Or send an `Idempotency-Key`: a repeated request gets the first answer again.
   */
  "POST /v1/admin/languages/{tag}/rollback": {
    path: { tag: string; };
    header?: { "Idempotency-Key"?: string | null; };
    body: RollbackRequest;
    answer: Rollback;
  };
  /**
   * Take a language away for good, with its versions, datasets, taught captions and answers; certify it.
   *
   * Files that another language was taught upon stay, and are listed. If this is interrupted, or answers 503,
   * send it again: it goes on. Refused while anything is queued or running.
   */
  "POST /v1/admin/languages/{tag}/withdraw": {
    path: { tag: string; };
    body: WithdrawalRequest;
    answer: LanguageWithdrawal;
  };
  /** Return the certificate of the newest withdrawal of a language. */
  "GET /v1/admin/languages/{tag}/withdrawal": {
    path: { tag: string; };
    answer: Record<string, unknown>;
  };
  /**
   * Delete for good what a key or person gave to a language: answers, rows that wait, proposed captions.
   *
   * `actor` is as in the audit log. What was taught of it is in datasets, and captions that were accepted
   * belong to the pictures: both stay.
   */
  "DELETE /v1/admin/languages/{tag}/contributions": {
    path: { tag: string; };
    query: { actor: string; };
    answer: undefined;
  };
  /** Releases, newest first: who made them, when and why, and what changed. */
  "GET /v1/admin/releases": {
    query?: { limit?: number; cursor?: string | null; };
    answer: ReleasePage;
  };
  /**
   * List who changed what, newest first: of one key, one act (`PUT /v1/pictures/{id}`), one target, or a time.
   *
   * An entry is written in the transaction of the change; what was refused has none.
   */
  "GET /v1/admin/audit": {
    query?: { limit?: number; cursor?: string | null; actor?: string | null; act?: string | null; target?: string | null; since?: string | null; until?: string | null; };
    answer: AuditPage;
  };
  /** Serve again what an earlier release served, if `expected` is the release that serves now. */
  "POST /v1/admin/releases/{number}/restore": {
    path: { number: number; };
    body: RestoreRequest;
    answer: ReleaseItem;
  };
  /**
   * Remove the files and vectors of versions that no release in reach names; versions and releases stay listed.
   *
   * In reach are the `keep` newest releases, the version that one language would go back to from any of them,
   * everything that a running expansion may use, and whatever is younger than the oldest of these releases.
   * What was pruned cannot be restored. If this is interrupted, or answers 503, send it again: it goes on.
   */
  "POST /v1/admin/prune": {
    body: PruneRequest;
    answer: PruneResult;
  };
  /** All keys without their secrets, newest first. */
  "GET /v1/admin/keys": {
    answer: Keys;
  };
  /** Create a key; its text is shown only in this response. */
  "POST /v1/admin/keys": {
    body: KeyRequest;
    answer: NewKey;
  };
  /** List the open sessions of browsers, newest first; `DELETE /v1/admin/keys/{id}` ends one. */
  "GET /v1/admin/sessions": {
    answer: Sessions;
  };
  /** Revoke a key, or end a session: in this process at once, in other processes within five seconds. */
  "DELETE /v1/admin/keys/{id}": {
    path: { id: string; };
    answer: undefined;
  };
  /**
   * Hash every file of the served release again, and measure how many of the nearest pictures searches find.
   *
   * Files of pictures, datasets and versions that the registry names are looked for, not hashed.
   */
  "POST /v1/admin/index/verify": {
    answer: VerifyResult;
  };
  /** Which base serves, the newest move to another one with its comparison, and what the way back would do. */
  "GET /v1/admin/base": {
    answer: BaseStatus;
  };
  /**
   * Make everything anew for another base or encoding, beside what serves, and then serve that by one release.
   *
   * 202 with the expansion; with `dry_run` only what it takes. It ends with `gate_failed` when a language would
   * lose more than the forgetting budget, unless it is forced. Refused while anything else is queued or
   * running.
   */
  "POST /v1/admin/base": {
    header?: { "Idempotency-Key"?: string | null; };
    body: BaseMove;
    answer: SubmittedMove;
  };
  /**
   * Serve the base or encoding before this one again, as its last release did; each process opens it beside.
   *
   * Languages that were learned on this base alone are no longer served. Done twice, it leads back.
   */
  "POST /v1/admin/base/undo": {
    body: BaseUndo;
    answer: BaseUndoResult;
  };
  /** Whether the process answers. */
  "GET /livez": {
    answer: Live;
  };
  /**
   * Whether a verified snapshot serves and searches are accepted; `degraded` lists what is wrong.
   *
   * Needs no key; with one that is not bound to collections it tells more.
   */
  "GET /readyz": {
    answer: Ready;
  };
  /**
   * Metrics for Prometheus: they name languages and routes.
   *
   * They need a key, but for `PICTOGLOT_ENVIRONMENT=local` on a loopback address.
   */
  "GET /metrics": {
    answer: string;
  };
  /** Return what administrators look at: what is served, what is wrong, space, queues, the newest backup. */
  "GET /v1/admin/status": {
    answer: ServiceStatus;
  };
  /** Tell who sends this: by a key, a proxy or a session, and what that allows. Needs no key. */
  "GET /session": {
    answer: CallerStatus;
  };
  /** Let this browser remember the key that comes with this, in a cookie that no script can read. */
  "POST /session": {
    answer: CallerStatus;
  };
  /** End the session of this browser; without one, nothing happens. */
  "DELETE /session": {
    answer: undefined;
  };
}
