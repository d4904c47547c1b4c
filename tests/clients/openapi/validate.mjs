// Reads one OpenAPI document on standard input; says on standard output whether it is valid, and its errors.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const { valid, errors } = await new Validator().validate(JSON.parse(readFileSync(0, "utf8")));
console.log(JSON.stringify({ valid, errors: errors ?? [] }));
