// `check` and `config show`: a configuration file without a running instance. Knows the config room and
// how to print problems.

import { effectiveConfigText, formatProblem } from "../config/text.ts";
import { parseConfig } from "../config/parse.ts";
import { Failure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import { readConfigFile } from "./changes.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
